// Sends the name of the sample that was clicked.
element.addEventListener("click", (event) => {
  const name = event.target.closest("button")?.dataset.name;
  if (name) trigger("click", { name });
});
