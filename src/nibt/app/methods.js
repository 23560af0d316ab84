// Keeps the value of the component, the names of the selected methods, equal to the checkboxes. Shows the time of each
// method, and moves those that are not available to the end, with the reason. The server sends both with each model.
const boxes = () => [...element.querySelectorAll("input[type=checkbox]")];
const texts = new Map(); // from a method to its time, or to why it is not available
const places = boxes().map((box) => ({ box, row: box.closest(".nibt-method"), group: box.closest("fieldset") }));

const describe = () => {
  const chosen = boxes().filter((box) => box.checked).map((box) => box.value);
  const text = chosen.length === 1 ? [chosen[0], texts.get(chosen[0])].filter(Boolean).join(", ") : chosen.join(", ") || "none";
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
  const unavailable = element.querySelector(".nibt-unavailable");
  const items = new Map([...document.querySelectorAll("#facts [data-method]")].map((item) => [item.dataset.method, item]));
  for (const { box, row, group } of places) {
    const item = items.get(box.value);
    texts.set(box.value, item?.textContent || "");
    row.querySelector("small").textContent = texts.get(box.value);
    box.disabled = item?.dataset.available === "false";
    row.classList.toggle("nibt-disabled", box.disabled);
    (box.disabled ? unavailable : group).append(row);
    if (box.disabled) box.checked = false;
  }
  if (!boxes().some((box) => box.checked)) {
    const usual = boxes().find((box) => items.get(box.value)?.dataset.default === "true" && !box.disabled);
    if (usual) usual.checked = true;
  }
  for (const group of new Set(places.map(({ group }) => group))) group.hidden = !group.querySelector(".nibt-method");
  const count = unavailable.querySelectorAll(".nibt-method").length;
  unavailable.hidden = count === 0;
  unavailable.querySelector("summary").textContent = `${count} methods are not available with this model`;
  send();
};
element.addEventListener("change", send);
watch("value", receive);
const factsElement = document.querySelector("#facts");
new MutationObserver(readFacts).observe(factsElement, { childList: true, subtree: true, characterData: true });
readFacts();
