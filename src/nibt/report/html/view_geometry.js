/* Numbers, places on the image, and how they are written. */

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
const largest = (numbers) => numbers.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
const limited = (value, low, high) => Math.min(high, Math.max(low, value));
const percent = (part, whole) => `${whole > 0 ? Math.round((100 * part) / whole) : 0}\u00a0%`;
const signed = (x) => {
  const size = Math.abs(x);
  const told = size === 0 ? "0" : size < 0.001 ? size.toExponential(1).replace("-", "\u2212") : String(Number(size.toPrecision(3)));
  return (x < 0 ? "\u2212" : "+") + told;
};
const quoted = (words) => words.map((word) => `\u201c${word}\u201d`).join(" + ");

/** The share of each patch that lies in a box (all in shares of the image), as Interaction.for_region counts. */
function covered({ grid: [rows, columns], region }, box) {
  const along = (start, length, first, extent, cells) =>
    Array.from({ length: cells }, (_, cell) => {
      const low = first + (extent * cell) / cells, high = first + (extent * (cell + 1)) / cells;
      return (Math.max(0, Math.min(high, start + length) - Math.max(low, start)) * cells) / extent;
    });
  const across = along(box[0], box[2], region[0], region[2], columns);
  return along(box[1], box[3], region[1], region[3], rows).flatMap((down) => across.map((share) => down * share));
}

const weighed = (scores, weights) => sum(scores.map((score, patch) => score * weights[patch]));

/** The patch under a point, or null where the model did not look. */
function patchAt({ grid: [rows, columns], region }, [x, y]) {
  const column = Math.floor(((x - region[0]) / region[2]) * columns);
  const row = Math.floor(((y - region[1]) / region[3]) * rows);
  return column >= 0 && column < columns && row >= 0 && row < rows ? { row, column, index: row * columns + column } : null;
}

function patchBox({ grid: [rows, columns], region }, row, column) {
  const [width, height] = [region[2] / columns, region[3] / rows];
  return clipped([region[0] + column * width, region[1] + row * height, width, height]);
}

function clipped([left, top, width, height]) {
  const [x, y] = [limited(left, 0, 1), limited(top, 0, 1)];
  return [x, y, limited(left + width, 0, 1) - x, limited(top + height, 0, 1) - y];
}

const spanned = (a, b) => {
  const [left, top] = [Math.min(a[0], b[0]), Math.min(a[1], b[1])];
  const right = Math.max(a[0] + a[2], b[0] + b[2]), bottom = Math.max(a[1] + a[3], b[1] + b[3]);
  return clipped([left, top, right - left, bottom - top]);
};

/** Where on the grid the strongest patch lies, in words. */
function whereabouts({ grid: [rows, columns], scores }) {
  const at = scores.reduce((best, score, patch) => (Math.abs(score) > Math.abs(scores[best]) ? patch : best), 0);
  const third = (place, cells, names) => names[Math.min(2, Math.floor((3 * (place + 0.5)) / cells))];
  const told = [third(Math.floor(at / columns), rows, ["top", "", "bottom"]), third(at % columns, columns, ["left", "", "right"])];
  return told.filter(Boolean).join(" ") || "middle";
}
