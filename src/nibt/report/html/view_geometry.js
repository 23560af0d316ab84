/* Arithmetic, boxes and patches, and the formatting of numbers and words. Boxes are [left, top, width, height], relative
 * to the width and height of the image. */

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const maxAbs = (numbers) => numbers.reduce((largest, number) => Math.max(largest, Math.abs(number)), 0);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const formatPercent = (part, whole) => `${whole > 0 ? Math.round((100 * part) / whole) : 0}\u00a0%`;
const formatSigned = (number) => {
  const size = Math.abs(number);
  const digits = size === 0 ? "0" : size < 0.001 ? size.toExponential(1).replace("-", "\u2212") : String(Number(size.toPrecision(3)));
  return (number < 0 ? "\u2212" : "+") + digits;
};
/** Numbers side by side, with the same decimals: three digits of the largest, and no minus before a rounded zero, as in
 * view_text.signed_row. */
function formatRow(numbers) {
  const largest = maxAbs(numbers);
  if (largest > 0 && largest < 1e-6) return numbers.map(formatSigned);
  const decimals = largest > 0 ? Math.max(0, 2 - Math.floor(Math.log10(largest))) : 2;
  return numbers.map((number) => {
    const digits = Math.abs(number).toFixed(decimals);
    return (number < 0 && Number(digits) ? "\u2212" : "+") + digits;
  });
}
const quoteWords = (words) => words.map((word) => `\u201c${word}\u201d`).join(" and ");

/** The share of each patch that lies in a box, computed as in Regions.for_region. */
function boxWeights({ grid: [rows, columns], region }, box) {
  const axisShares = (start, length, gridStart, gridLength, cells) =>
    Array.from({ length: cells }, (_, cell) => {
      const low = gridStart + (gridLength * cell) / cells, high = gridStart + (gridLength * (cell + 1)) / cells;
      return (Math.max(0, Math.min(high, start + length) - Math.max(low, start)) * cells) / gridLength;
    });
  const columnShares = axisShares(box[0], box[2], region[0], region[2], columns);
  return axisShares(box[1], box[3], region[1], region[3], rows).flatMap((rowShare) => columnShares.map((share) => rowShare * share));
}

const weightedSum = (scores, weights) => sum(scores.map((score, patch) => score * weights[patch]));

/** The patch at a point, or null outside the part of the image that the model sees. */
function patchAt({ grid: [rows, columns], region }, [x, y]) {
  const column = Math.floor(((x - region[0]) / region[2]) * columns);
  const row = Math.floor(((y - region[1]) / region[3]) * rows);
  return column >= 0 && column < columns && row >= 0 && row < rows ? { row, column, index: row * columns + column } : null;
}

/** The box of a patch. */
function patchBox({ grid: [rows, columns], region }, row, column) {
  const [width, height] = [region[2] / columns, region[3] / rows];
  return clipBox([region[0] + column * width, region[1] + row * height, width, height]);
}

/** The part of a box that lies on the image. */
function clipBox([left, top, width, height]) {
  const [x, y] = [clamp(left, 0, 1), clamp(top, 0, 1)];
  return [x, y, clamp(left + width, 0, 1) - x, clamp(top + height, 0, 1) - y];
}

/** The smallest box that contains two boxes. */
function enclosingBox(a, b) {
  const [left, top] = [Math.min(a[0], b[0]), Math.min(a[1], b[1])];
  const right = Math.max(a[0] + a[2], b[0] + b[2]), bottom = Math.max(a[1] + a[3], b[1] + b[3]);
  return clipBox([left, top, right - left, bottom - top]);
}

/** The largest score, and where on the image the scores of at least half of it are, in words such as "at the top left". */
function describeRegion({ grid: [rows, columns], region }, scores) {
  const largest = Math.max(...scores), inside = scores.map((score) => (score >= largest / 2 ? score : 0)), total = sum(inside);
  const place = (patch) => [region[0] + (region[2] * ((patch % columns) + 0.5)) / columns, region[1] + (region[3] * (Math.floor(patch / columns) + 0.5)) / rows];
  const mean = (valueOf) => sum(inside.map((score, patch) => score * valueOf(place(patch)))) / total;
  const nameOf = (center, low, high) => (center < 0.4 ? low : center > 0.6 ? high : "");
  const [across, down] = [nameOf(mean(([x]) => x), "left", "right"), nameOf(mean(([, y]) => y), "top", "bottom")];
  if (across || down) return { score: largest, place: down ? `at the ${[down, across].filter(Boolean).join(" ")}` : `on the ${across}` };
  const central = mean(([x, y]) => Number(Math.abs(x - 0.5) < 0.25 && Math.abs(y - 0.5) < 0.25)); // the share near the middle
  return { score: largest, place: central > 0.5 ? "in the middle" : "in several places" };
}
