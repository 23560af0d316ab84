/* Tables of numbers: a click on a head sorts its column, once more turns it; a long table gets a field to search it. */
(() => {
  "use strict";
  const LONG = 8; // rows from which searching pays
  const text = (row, column) => row.cells[column].textContent.trim();
  const number = (told) => Number.parseFloat(told.replace("\u2212", "-"));

  function compared(one, other) {
    const [a, b] = [number(one), number(other)];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || one.localeCompare(other);
    return a - b;
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      if (!head.textContent) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].sort((a, b) => compared(text(a, column), text(b, column)));
        body.append(...(down ? rows.reverse() : rows));
      });
    });
    if (body.rows.length >= LONG) {
      const label = document.createElement("label"), field = document.createElement("input");
      label.className = "search";
      label.textContent = "Show rows with";
      field.type = "search";
      field.addEventListener("input", () => {
        for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
      });
      label.append(field);
      table.parentElement.before(label);
    }
  }
})();
