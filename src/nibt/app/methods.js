// Keeps the value of the component, the names of the selected methods, equal to the checkboxes. Shows the time of each
// method, and disables those that the model cannot run, with the reason. The server sends both with each model.
const boxes = () => [...element.querySelectorAll("input[type=checkbox]")];
const facts = new Map(); // from a method to its text, and to whether the model cannot run it

const describe = () => {
  const chosen = boxes().filter((box) => box.checked).map((box) => box.value);
  const text = chosen.length === 1 ? [chosen[0], facts.get(chosen[0])?.text].filter(Boolean).join(", ") : chosen.join(", ") || "none";
  element.querySelector(".nibt-chosen").textContent = text;
};
const send = () => {
  const chosen = boxes().filter((box) => box.checked).map((box) => box.value);
  if (JSON.stringify(chosen) !== JSON.stringify(props.value)) props.value = chosen;
  describe();
};
const receive = () => {
  for (const box of boxes()) box.checked = (props.value || []).includes(box.value);
  describe();
};
const readFacts = () => {
  facts.clear();
  for (const item of document.querySelectorAll("#facts [data-method]"))
    facts.set(item.dataset.method, { text: item.textContent, unsupported: item.dataset.unsupported === "true" });
  for (const box of boxes()) {
    const { text = "", unsupported = false } = facts.get(box.value) || {}, row = box.closest(".nibt-method");
    row.querySelector("small").textContent = text;
    row.classList.toggle("nibt-disabled", unsupported);
    box.disabled = unsupported;
    if (unsupported) box.checked = false;
  }
  send();
};
element.addEventListener("change", send);
watch("value", receive);
const factsElement = document.querySelector("#facts");
new MutationObserver(readFacts).observe(factsElement, { childList: true, subtree: true, characterData: true });
readFacts();
