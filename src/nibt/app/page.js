// What the page of `nibt serve` adds to the view: the link follows what is chosen, and opens with it.
const nibtPage = {
  first: new URLSearchParams(location.search),
  wake(root, link) {
    if (root.dataset.awake) return;
    root.dataset.awake = "yes";
    const view = nibtView(root);
    const words = this.first.get("words");
    if (words && link) {
      view.select(words.split(",").map(Number));
      this.first.delete("words");
    }
    if (!link) return;
    const plain = link.getAttribute("href");
    const follow = () => {
      const chosen = view.state().words;
      link.setAttribute("href", chosen.length ? `${plain}&words=${chosen.join(",")}` : plain);
    };
    root.addEventListener("nibt-select", follow);
    follow();
  },
};
