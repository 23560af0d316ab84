// A click on a sample says which one it was.
element.addEventListener("click", (event) => {
  const name = event.target.closest("button")?.dataset.name;
  if (name) trigger("click", { name });
});
