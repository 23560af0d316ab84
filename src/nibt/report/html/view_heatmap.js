/* Colors, and the heatmap over the image. The arithmetic is that of colors.py and heatmap.py, whose constants are part of
 * the data. */

/** A background color with the color of a score over it. */
function blendColor(background, share, colors, opacity) {
  const hue = share >= 0 ? colors.for : colors.against, weight = Math.abs(share) * opacity;
  return background.map((value, channel) => Math.round(value * (1 - weight) + hue[channel] * weight));
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

/** Paint a map over the grayed image. */
function paintHeatmap(canvas, photo, map, colors, controls) {
  const { width, height, color, gray, unseen } = photo, [rows, columns] = map.grid, scores = map.scores;
  const [left, top] = [Math.round(map.region[0] * width), Math.round(map.region[1] * height)];
  const rowWeights = bilinearWeights(Math.max(1, Math.round(map.region[3] * height)), rows);
  const columnWeights = bilinearWeights(Math.max(1, Math.round(map.region[2] * width)), columns);
  const graying = colors.greying * Math.min(1, controls.opacity / colors.cover);
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), output = image.data;
  for (let y = 0, pixel = 0; y < height; y += 1) {
    const [above, below, belowWeight] = rowWeights[y - top] || [];
    for (let x = 0; x < width; x += 1, pixel += 1) {
      const neighbors = belowWeight === undefined ? undefined : columnWeights[x - left];
      output[4 * pixel + 3] = 255;
      if (!neighbors) {
        output[4 * pixel] = output[4 * pixel + 1] = output[4 * pixel + 2] = unseen[pixel];
        continue;
      }
      const [first, second, secondWeight] = neighbors;
      const upper = scores[above * columns + first] * (1 - secondWeight) + scores[above * columns + second] * secondWeight;
      const lower = scores[below * columns + first] * (1 - secondWeight) + scores[below * columns + second] * secondWeight;
      const share = strength(upper * (1 - belowWeight) + lower * belowWeight, map.largest, controls);
      const weight = Math.abs(share) * controls.opacity, hue = share >= 0 ? colors.for : colors.against;
      for (let channel = 0; channel < 3; channel += 1) {
        const background = color[4 * pixel + channel] * (1 - graying) + gray[pixel] * graying;
        output[4 * pixel + channel] = background * (1 - weight) + hue[channel] * weight;
      }
    }
  }
  context.putImageData(image, 0, 0);
}
