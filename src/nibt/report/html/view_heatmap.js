/* Colors, and the heatmap over the image. The arithmetic is that of colors.py and heatmap.py, whose constants are part of
 * the data. */

/** sRGB, from 0 to 255, to OKLab and back (B. Ottosson, 2020). */
function toOklab(rgb) {
  const [r, g, b] = rgb.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.210454255 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

function fromOklab([lightness, a, b]) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s, -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s].map((value) => {
    const linear = clamp(value, 0, 1);
    return Math.round(255 * (linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055));
  });
}

/** A background color with the color of a score over it. */
function blendColor(background, share, colors, opacity) {
  const from = toOklab(background), to = toOklab(share >= 0 ? colors.for : colors.against), weight = Math.abs(share) * opacity;
  return fromOklab(from.map((value, channel) => value * (1 - weight) + to[channel] * weight));
}

const LEVELS = 256; // of a color's strength, in each direction

const lastTints = new WeakMap(); // computing a table takes longer than painting with it, and the opacity rarely changes

/** The table of `tints`, which is computed when the colors or the opacity change. */
function cachedTints(colors, opacity) {
  if (lastTints.get(colors)?.opacity !== opacity) lastTints.set(colors, { opacity, table: tints(colors, opacity) });
  return lastTints.get(colors).table;
}

/** The color of each gray under each strength, as red, green and blue at 3 * (gray * (2 LEVELS + 1) + strength + LEVELS). */
function tints(colors, opacity) {
  const table = new Uint8Array(256 * (2 * LEVELS + 1) * 3), hues = [colors.against, colors.for].map(toOklab);
  for (let gray = 0, place = 0; gray < 256; gray += 1) {
    const [level] = toOklab(colors.style === "heatmap" ? colors.paper : [gray, gray, gray]);
    const lightness = colors.style === "heatmap" ? level : colors.darkest + (colors.lightest - colors.darkest) * level;
    const kept = colors.style === "heatmap" ? 0 : colors.kept;
    for (let strong = -LEVELS; strong <= LEVELS; strong += 1, place += 3) {
      const [light, a, b] = hues[strong < 0 ? 0 : 1], cover = (Math.abs(strong) / LEVELS) * opacity, change = cover * (1 - kept);
      table.set(fromOklab([lightness * (1 - change) + light * change, a * cover, b * cover]), place);
    }
  }
  return table;
}

/** Black or white, whichever has the higher contrast on a background (WCAG). */
function inkOn(background) {
  const linear = background.map((value) => (value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return (luminance + 0.05) ** 2 > 1.05 * 0.05 ? "#000" : "#fff";
}

const cssColor = (color) => `rgb(${color.join(" ")})`;

/** A score relative to the largest, in [-1, 1]; 0 if the controls hide it. */
function strength(score, largest, controls) {
  const share = largest > 0 ? clamp(score / largest, -1, 1) : 0;
  return (controls.positiveOnly && share < 0) || Math.abs(share) < controls.threshold ? 0 : share;
}

/** A score as it is drawn: one that cannot be told from 0 is pale. */
const fadedScore = (score, error, colors) => (error !== null && error !== undefined && Math.abs(score) <= error ? score * colors.faded : score);

/** The three labels below a color bar: left end, middle, right end. */
const createScaleLabels = (scale) => ["", "", ""].map((text) => scale.appendChild(createElement("span", "", text)));

/** Draw a color bar and its labels. It starts at 0 if only positive scores are shown, or if scores without a sign are all
 * at least 0. */
function drawScale({ scale, scaleLabels }, scores, largest, colors, opacity, positiveOnly, isSigned) {
  const oneSided = positiveOnly || (!isSigned && scores.every((score) => score >= 0));
  const colorOf = (share) => cssColor(blendColor(colors.paper, share, colors, opacity));
  scale.style.setProperty("--nibt-scale", `linear-gradient(to right, ${(oneSided ? [0, 1] : [-1, 0, 1]).map(colorOf).join(", ")})`);
  const texts = largest === 0 ? ["", "all scores are 0", ""]
    : oneSided ? ["0", "", isSigned ? `for ${formatSigned(largest)}` : `strength ${formatSigned(largest).slice(1)}`]
    : [`${formatSigned(-largest)}${isSigned ? " against" : ""}`, "0", `${isSigned ? "for " : ""}${formatSigned(largest)}`];
  scaleLabels.forEach((label, index) => { if (label.textContent !== texts[index]) label.textContent = texts[index]; });
}

/** The pixels of an image: in color, in gray, and blurred under pale stripes for the parts that the model does not see. */
function preparePhoto(image, colors) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const toGray = (pixels) => Uint8Array.from({ length: width * height }, (_, pixel) =>
    (pixels[4 * pixel] * 19595 + pixels[4 * pixel + 1] * 38470 + pixels[4 * pixel + 2] * 7471 + 32768) >> 16);
  context.drawImage(image, 0, 0);
  const color = context.getImageData(0, 0, width, height).data;
  const [smallWidth, smallHeight] = [Math.ceil(width / 4), Math.ceil(height / 4)];
  context.drawImage(image, 0, 0, smallWidth, smallHeight);
  context.drawImage(canvas, 0, 0, smallWidth, smallHeight, 0, 0, width, height);
  const blurred = toGray(context.getImageData(0, 0, width, height).data);
  const unseen = blurred.map((gray, pixel) => {
    const stripe = colors.stripes[Math.floor((Math.floor(pixel / width) + (pixel % width)) / 6) % 2];
    return gray * (1 - colors.striped) + stripe * colors.striped;
  });
  return { width, height, color, gray: toGray(color), unseen };
}

/** For each pixel along an axis: the two cells whose centers are on either side, and the weight of the second. */
const bilinearWeights = (pixels, cells) => Array.from({ length: pixels }, (_, pixel) => {
  const position = Math.max(0, ((pixel + 0.5) * cells) / pixels - 0.5), first = Math.floor(position);
  return [first, Math.min(first + 1, cells - 1), position - first];
});

/** Paint a map over the image: its colors, and the outline where the score passes a share of the largest positive one. */
function paintHeatmap(canvas, photo, map, colors, controls) {
  const { width, height, color, gray, unseen } = photo, [rows, columns] = map.grid;
  const scores = map.scores.map((score, cell) => fadedScore(score, map.errors?.[cell], colors));
  const [left, top] = [Math.round(map.region[0] * width), Math.round(map.region[1] * height)];
  const rowWeights = bilinearWeights(Math.max(1, Math.round(map.region[3] * height)), rows);
  const columnWeights = bilinearWeights(Math.max(1, Math.round(map.region[2] * width)), columns);
  const scoreAt = (y, x) => {
    const [above, below, belowWeight] = rowWeights[clamp(y, 0, rowWeights.length - 1)];
    const [first, second, secondWeight] = columnWeights[clamp(x, 0, columnWeights.length - 1)];
    const upper = scores[above * columns + first] * (1 - secondWeight) + scores[above * columns + second] * secondWeight;
    const lower = scores[below * columns + first] * (1 - secondWeight) + scores[below * columns + second] * secondWeight;
    return upper * (1 - belowWeight) + lower * belowWeight;
  };
  const table = cachedTints(colors, controls.opacity), covered = Math.min(1, controls.opacity / colors.cover);
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), output = image.data;
  for (let y = 0, pixel = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, pixel += 1) {
      output[4 * pixel + 3] = 255;
      if (y < top || y >= top + rowWeights.length || x < left || x >= left + columnWeights.length) {
        output[4 * pixel] = output[4 * pixel + 1] = output[4 * pixel + 2] = unseen[pixel];
        continue;
      }
      const share = colors.style === "outline" ? 0 : strength(scoreAt(y - top, x - left), map.largest, controls);
      const place = 3 * (gray[pixel] * (2 * LEVELS + 1) + Math.round(share * LEVELS) + LEVELS);
      for (let channel = 0; channel < 3; channel += 1) {
        const tinted = colors.style === "outline" ? color[4 * pixel + channel] : table[place + channel];
        output[4 * pixel + channel] = color[4 * pixel + channel] * (1 - covered) + tinted * covered;
      }
    }
  }
  context.putImageData(image, 0, 0);
  const most = map.shared ? map.largest : Math.max(...map.scores);
  if (colors.outlined && (map.part || most > 0)) {
    const partAt = (y, x) => map.part[Math.min(rows - 1, Math.floor(((y + 0.5) * rows) / rowWeights.length)) * columns
      + Math.min(columns - 1, Math.floor(((x + 0.5) * columns) / columnWeights.length))];
    const box = [left, top, columnWeights.length, rowWeights.length];
    drawOutline(context, map.part ? partAt : scoreAt, box, map.grid, map.part ? 0.5 : colors.outlined * most);
  }
}

/** Lower connected parts of at most `size` values that are at least 0, in a table with `across` columns, to just below 0. */
function dropSmallParts(values, across, size) {
  const visited = new Uint8Array(values.length);
  for (let start = 0; start < values.length; start += 1) {
    if (visited[start] || values[start] < 0) continue;
    const part = [start];
    visited[start] = 1;
    for (let place = 0; place < part.length; place += 1) {
      const cell = part[place], column = cell % across;
      const neighbors = [cell - across, cell + across, ...(column > 0 ? [cell - 1] : []), ...(column < across - 1 ? [cell + 1] : [])];
      for (const neighbor of neighbors) {
        if (values[neighbor] >= 0 && !visited[neighbor]) part.push(neighbor), visited[neighbor] = 1;
      }
    }
    if (part.length <= size) for (const cell of part) values[cell] = -Number.EPSILON;
  }
}

/** Draw a white line with a dark edge where the score passes a level (marching squares). Parts of less than half a unit, which
 * nibt.report.image.heatmap blurs away, get no line. */
function drawOutline(context, scoreAt, [left, top, width, height], [rows, columns], level) {
  const step = Math.max(1, Math.round(Math.max(width, height) / 280)), path = new Path2D();
  const [across, down] = [Math.ceil((width - 1) / step) + 1, Math.ceil((height - 1) / step) + 1];
  const shifted = Float64Array.from({ length: across * down }, (_, cell) =>
    scoreAt(step * Math.floor(cell / across), step * (cell % across)) - level);
  dropSmallParts(shifted, across, (width * height) / (2 * rows * columns * step * step));
  for (let row = 0; row < down - 1; row += 1) {
    for (let column = 0; column < across - 1; column += 1) {
      const corners = [[column, row], [column + 1, row], [column + 1, row + 1], [column, row + 1]];
      const values = corners.map(([x, y]) => shifted[y * across + x]);
      const crossings = corners.flatMap((corner, index) => {
        const next = (index + 1) % 4, [here, there] = [values[index], values[next]];
        if (here >= 0 === there >= 0) return [];
        return [corner.map((value, axis) => value + (corners[next][axis] - value) * (here / (here - there)))];
      });
      for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
        const [from, to] = [crossings[pair], crossings[pair + 1]];
        path.moveTo(left + step * from[0] + 0.5, top + step * from[1] + 0.5);
        path.lineTo(left + step * to[0] + 0.5, top + step * to[1] + 0.5);
      }
    }
  }
  const finest = Math.max(1, Math.max(width, height) / 560);
  for (const [color, thickness] of [["rgb(34 34 34)", 3.8], ["#fff", 1.8]]) {
    Object.assign(context, { strokeStyle: color, lineWidth: thickness * finest, lineCap: "round" });
    context.stroke(path);
  }
}
