// What the page of `nibt serve` adds to the view: the link follows the words that are chosen, and opens with them.
const nibtPage = {
  first: new URLSearchParams(location.search),
  wake(root, link) {
    const view = nibtView(root);
    if (!link) return;
    const plain = link.getAttribute("href"), captions = new URLSearchParams(plain).get("captions").split("\n");
    const words = this.first.get("words"); // as caption.word, numbers from 0
    if (words) view.select(words.split(",").map((one) => one.split(".").map(Number))
      .map(([caption, index]) => ({ caption: captions[caption], index })));
    this.first.delete("words");
    const follow = () => {
      const chosen = view.state().words.map((word) => `${captions.indexOf(word.caption)}.${word.index}`);
      link.setAttribute("href", chosen.length ? `${plain}&words=${chosen.join(",")}` : plain);
    };
    root.addEventListener("nibt-select", follow);
    follow();
  },
};
