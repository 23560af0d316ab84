// Disables the methods that the selected model does not support, and shows the reasons. The server sends the list with
// each model. Gradio may draw the checkboxes later than the list, and may draw them again.
const methodsGroup = () => document.querySelector("#methods");
const disableUnsupported = () => {
  const reasons = new Map([...element.querySelectorAll("[data-method]")].map((item) => [item.dataset.method, item.textContent]));
  for (const input of methodsGroup()?.querySelectorAll("input[type=checkbox]") || []) {
    const label = input.closest("label"), reason = reasons.get(input.name) || "";
    if (reason && input.checked) input.click();
    if (input.disabled !== Boolean(reason)) input.disabled = Boolean(reason);
    label.classList.toggle("nibt-disabled", Boolean(reason));
    if (label.title !== reason) label.title = reason;
    input.title = reason || input.name;
  }
};
new MutationObserver(disableUnsupported).observe(document.querySelector("#fields") || document.body, { childList: true, subtree: true });
disableUnsupported();
