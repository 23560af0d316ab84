// Makes each new answer interactive, and brings a new map into view. Gradio may have reused the elements of the last answer
// with their listeners; a copy has no listeners.
let isComplete = true; // whether the last answer was the last one of its request
const showMap = (root) => {
  const place = root.querySelector(".nibt-panel"), { top } = place.getBoundingClientRect();
  if (top >= 0 && top < 0.4 * innerHeight) return;
  const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
  place.scrollIntoView({ block: "start", behavior: reduced ? "auto" : "smooth" });
};
const mountAnswer = () => {
  const rendered = element.querySelector(".nibt-view"), isNew = isComplete;
  if (!rendered) return;
  isComplete = Boolean(element.querySelector(".nibt-saved"));
  const root = rendered.cloneNode(true);
  rendered.replaceWith(root);
  for (const link of root.querySelectorAll("a[href^='help']")) link.target = "_blank";
  const { ready } = nibtPage.mount(root, element.querySelector(".nibt-link"));
  if (isNew) ready.then(() => showMap(root));
};
mountAnswer();
watch("value", mountAnswer);
