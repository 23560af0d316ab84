// Methods that the chosen model cannot be explained by are greyed out, with the reason: the list of them comes from the
// server with each model. The checkboxes may be drawn later than the list, and drawn again.
const group = () => document.querySelector("#methods");
const disable = () => {
  const reasons = new Map([...element.querySelectorAll("[data-method]")].map((line) => [line.dataset.method, line.textContent]));
  for (const input of group()?.querySelectorAll("input[type=checkbox]") || []) {
    const label = input.closest("label"), reason = reasons.get(input.name) || "";
    if (reason && input.checked) input.click();
    if (input.disabled !== Boolean(reason)) input.disabled = Boolean(reason);
    label.classList.toggle("nibt-disabled", Boolean(reason));
    if (label.title !== reason) label.title = reason;
    input.title = reason || input.name;
  }
};
new MutationObserver(disable).observe(document.querySelector("#fields") || document.body, { childList: true, subtree: true });
disable();
