// Makes each new answer interactive, and brings a new map into view. Gradio may have reused the elements of the last answer
// with their listeners; a copy has no listeners.
let last = 0; // the number of the question that was answered last
const showMap = (root) => {
  const place = root.querySelector(".nibt-panel"), { top } = place.getBoundingClientRect();
  if (top >= 0 && top < 0.4 * innerHeight) return;
  const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
  place.scrollIntoView({ block: "start", behavior: reduced ? "auto" : "smooth" });
};
const mountAnswer = () => {
  const rendered = element.querySelector(".nibt-view");
  if (!rendered) return;
  const container = rendered.closest("[data-question]"), question = Number(container.dataset.question), isNew = question !== last;
  if (question < nibtPage.question) return container.remove(); // it was on its way when another question replaced it
  last = question;
  const root = rendered.cloneNode(true);
  rendered.replaceWith(root);
  for (const link of root.querySelectorAll("a[href^='help']")) link.target = "_blank";
  const { ready } = nibtPage.mount(root, element.querySelector(".nibt-link"));
  const isOpening = question === 1 && !location.search; // without a request of the visitor, the page does not scroll
  if (isNew && !isOpening) ready.then(() => showMap(root));
};
mountAnswer();
watch("value", mountAnswer);
