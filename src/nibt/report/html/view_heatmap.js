/* Colours, and the map over the photograph: as in colours.py and heatmap.py, whose constants come with the data. */

const blended = (under, share, colours, cover) => {
  const hue = share >= 0 ? colours.for : colours.against, part = Math.abs(share) * cover;
  return under.map((value, channel) => Math.round(value * (1 - part) + hue[channel] * part));
};

function inkOn(background) {
  const linear = background.map((value) => (value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return (luminance + 0.05) ** 2 > 1.05 * 0.05 ? "#000" : "#fff";
}

const css = (colour) => `rgb(${colour.join(" ")})`;

/** Scores as shares of the largest in [-1, 1], after what the controls leave out. */
function strength(score, most, controls) {
  const share = most > 0 ? limited(score / most, -1, 1) : 0;
  return (controls.positive && share < 0) || Math.abs(share) < controls.threshold ? 0 : share;
}

/** The places of the numbers below a color bar: its left end, its zero, its right end. */
const ends = (scale) => ["", "", ""].map((text) => scale.appendChild(made("span", "", text)));

/** A color bar with its numbers: of one side where what lowers the score is hidden, or where scores without a sign have
 * nothing below zero. */
function drawScale({ scale, ends }, scores, most, colours, opacity, positive, isSigned) {
  const oneSided = positive || (!isSigned && scores.every((score) => score >= 0)), end = (share) => css(blended(colours.paper, share, colours, opacity));
  scale.style.setProperty("--nibt-scale", `linear-gradient(to right, ${(oneSided ? [0, 1] : [-1, 0, 1]).map(end).join(", ")})`);
  const texts = most === 0 ? ["", "all scores are 0", ""] : oneSided ? ["0", "", isSigned ? `for ${signed(most)}` : `strength ${signed(most).slice(1)}`]
    : [`${signed(-most)}${isSigned ? " against" : ""}`, "0", `${isSigned ? "for " : ""}${signed(most)}`];
  ends.forEach((text, place) => { if (text.textContent !== texts[place]) text.textContent = texts[place]; });
}

/** The pixels of a photograph: its colours, its greys, and pale stripes for what the model did not see. */
function photographed(image, colours) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = made("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const greys = (pixels) => Uint8Array.from({ length: width * height }, (_, at) =>
    (pixels[4 * at] * 19595 + pixels[4 * at + 1] * 38470 + pixels[4 * at + 2] * 7471 + 32768) >> 16);
  pen.drawImage(image, 0, 0);
  const colour = pen.getImageData(0, 0, width, height).data;
  const [small, low] = [Math.ceil(width / 4), Math.ceil(height / 4)];
  pen.drawImage(image, 0, 0, small, low);
  pen.drawImage(canvas, 0, 0, small, low, 0, 0, width, height);
  const soft = greys(pen.getImageData(0, 0, width, height).data);
  const unseen = soft.map((grey, at) => {
    const stripe = colours.stripes[Math.floor((Math.floor(at / width) + (at % width)) / 6) % 2];
    return grey * (1 - colours.striped) + stripe * colours.striped;
  });
  return { width, height, colour, grey: greys(colour), unseen };
}

/** Where a pixel lies between the centres of cells: the cells on both sides, and how near it is to the second. */
const between = (count, cells) => Array.from({ length: count }, (_, at) => {
  const place = Math.max(0, ((at + 0.5) * cells) / count - 0.5), first = Math.floor(place);
  return [first, Math.min(first + 1, cells - 1), place - first];
});

/** The map over the greyed photograph. */
function paint(canvas, photo, map, colours, controls) {
  const { width, height, colour, grey, unseen } = photo, [rows, columns] = map.grid, scores = map.scores;
  const [left, top] = [Math.round(map.region[0] * width), Math.round(map.region[1] * height)];
  const down = between(Math.max(1, Math.round(map.region[3] * height)), rows);
  const across = between(Math.max(1, Math.round(map.region[2] * width)), columns);
  const greying = colours.greying * Math.min(1, controls.opacity / colours.cover);
  const pen = canvas.getContext("2d"), image = pen.createImageData(width, height), out = image.data;
  for (let y = 0, at = 0; y < height; y += 1) {
    const [above, below, near] = down[y - top] || [];
    for (let x = 0; x < width; x += 1, at += 1) {
      const place = near === undefined ? undefined : across[x - left];
      out[4 * at + 3] = 255;
      if (!place) {
        out[4 * at] = out[4 * at + 1] = out[4 * at + 2] = unseen[at];
        continue;
      }
      const [first, second, nearer] = place;
      const upper = scores[above * columns + first] * (1 - nearer) + scores[above * columns + second] * nearer;
      const lower = scores[below * columns + first] * (1 - nearer) + scores[below * columns + second] * nearer;
      const share = strength(upper * (1 - near) + lower * near, map.most, controls);
      const part = Math.abs(share) * controls.opacity, hue = share >= 0 ? colours.for : colours.against;
      for (let channel = 0; channel < 3; channel += 1) {
        const under = colour[4 * at + channel] * (1 - greying) + grey[at] * greying;
        out[4 * at + channel] = under * (1 - part) + hue[channel] * part;
      }
    }
  }
  pen.putImageData(image, 0, 0);
}
