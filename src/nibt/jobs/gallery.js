/* Search, filters and order of the rows of a gallery. */
(() => {
  "use strict";
  const find = (id) => document.getElementById(id);
  const list = document.querySelector(".cards"), none = document.querySelector(".none");
  const [text, kind, order, least, most, shown] = ["text", "kind", "order", "least", "most", "shown"].map(find);

  const rows = [...list.children].map((card) => ({
    card,
    row: Number(card.dataset.row),
    score: card.dataset.score === undefined ? NaN : Number(card.dataset.score),
    failed: card.classList.contains("failed"),
    noted: "noted" in card.dataset,
    text: [...card.querySelectorAll("h2, .words span > span, .alert, .error, li, .source")]
      .map((element) => element.textContent).join(" ").replace(/\s+/g, " ").toLowerCase(),
  }));

  function isShown(row) {
    const wanted = text.value.trim().replace(/\s+/g, " ").toLowerCase();
    if (wanted && !row.text.includes(wanted)) return false;
    if (kind.value === "failed" && !row.failed) return false;
    if (kind.value === "noted" && !row.noted) return false;
    if (kind.value === "plain" && (row.noted || row.failed)) return false;
    // a row without a score is in no range
    if (least.value !== "" && !(row.score >= Number(least.value))) return false;
    if (most.value !== "" && !(row.score <= Number(most.value))) return false;
    return true;
  }

  function filter() {
    let count = 0;
    for (const row of rows) {
      row.card.hidden = !isShown(row);
      count += !row.card.hidden;
    }
    none.hidden = count > 0;
    shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  }

  function sort() {
    const sign = order.value === "high" ? -1 : 1;
    const sorted = [...rows].sort((first, second) => {
      if (order.value === "row") return first.row - second.row;
      const [a, b] = [first.score, second.score];
      // rows without a score come last
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || first.row - second.row;
      return sign * (a - b) || first.row - second.row;
    });
    list.append(...sorted.map((row) => row.card));
  }

  for (const input of [text, kind, least, most]) input.addEventListener("input", filter);
  order.addEventListener("input", sort);
  document.querySelector(".controls").hidden = false;
  // a browser may keep what was typed when a page is opened again
  filter();
  sort();
})();
