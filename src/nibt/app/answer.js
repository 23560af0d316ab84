// Makes each new answer interactive. Gradio may have reused the elements of the last answer with their listeners; a copy
// has no listeners.
const mountAnswer = () => {
  const rendered = element.querySelector(".nibt-view");
  if (!rendered) return;
  const root = rendered.cloneNode(true);
  rendered.replaceWith(root);
  nibtPage.mount(root, element.querySelector(".nibt-link"));
};
mountAnswer();
watch("value", mountAnswer);
