/* Sortable tables. A click on a heading sorts by its column, a second click reverses the order. A long table gets a
 * search field. */
(() => {
  "use strict";
  const MIN_SEARCHABLE_ROWS = 8;
  const cellText = (row, column) => row.cells[column].textContent.trim();
  const leadingNumber = (text) => Number.parseFloat(text.replace("\u2212", "-"));

  /** Numbers by value, before all other texts, which are in alphabetical order. */
  function compareCells(first, second) {
    const [a, b] = [leadingNumber(first), leadingNumber(second)];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || first.localeCompare(second);
    return a - b;
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    headings.forEach((heading, column) => {
      if (!heading.textContent) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const descending = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => compareCells(cellText(a, column), cellText(b, column)));
        body.append(...(descending ? rows.reverse() : rows));
      });
    });
    if (body.rows.length >= MIN_SEARCHABLE_ROWS) {
      const label = document.createElement("label"), input = document.createElement("input");
      label.className = "search";
      label.textContent = "Show rows with";
      input.type = "search";
      input.addEventListener("input", () => {
        for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(input.value.toLowerCase());
      });
      label.append(input);
      table.parentElement.before(label);
    }
  }
})();
