// Adds the link of `nibt serve` to the view: the link contains the selected words, and opening it selects them again.
const nibtPage = {
  query: new URLSearchParams(location.search),
  question: 0, // the number of the latest question
  mount(root, link) {
    const view = nibtView(root);
    if (!link) return view;
    const baseUrl = link.getAttribute("href"), query = new URLSearchParams(baseUrl), captions = query.get("captions").split("\n");
    const isAnswer = query.get("mode") === "answer"; // all panels have the words of one answer, which the model may have written
    const words = this.query.get("words"); // pairs caption.word, both counted from 0
    if (words) view.select(words.split(",").map((pair) => pair.split(".").map(Number))
      .map(([caption, index]) => (isAnswer ? index : { caption: captions[caption], index })));
    this.query.delete("words"); // only the first answer has the words of the opened link
    const updateLink = () => {
      const selected = view.state().words.map((word) => `${isAnswer ? 0 : captions.indexOf(word.caption)}.${word.index}`);
      link.setAttribute("href", selected.length ? `${baseUrl}&words=${selected.join(",")}` : baseUrl);
    };
    root.addEventListener("nibt-select", updateLink);
    updateLink();
    return view;
  },
};
