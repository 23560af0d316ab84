/* The text of a panel that changes with the selection: the title of a map, the readout, and the sums in the details. */

const MAX_READOUT_WORDS = 3, HARDLY = 0.1; // the share of the largest score of a table below which a map is not described
const HINT = "Click a word to see where the model sees it. Point at the image, or mark a box on it, to see its words.";

/** What the map over an image shows. */
function mapTitle(view, panel, stage) {
  const words = stage === panel.image ? view.selectedWords(panel) : [];
  if (words.length) return `Map of ${quotedWords(panel, words)}`;
  if (stage.shared) return stage.source;
  if (!panel.sides.some((side) => side.kind === "text")) return "";
  return `The whole ${panel.textName}`;
}

/** The readout of a panel. */
function readoutText(view, panel) {
  const sentences = eachStage(panel, (stage, prefix) => stageSentence(view, panel, stage, prefix));
  if (view.corner) sentences.push("One corner is set. Set the opposite one, or press Escape to cancel.");
  return sentences.filter(Boolean).join(" ");
}

/** The sums of the map, of the selected words and of the box or patch in focus. */
function sumsText(view, panel) {
  return eachStage(panel, (stage, prefix) => stageSums(view, panel, stage, prefix)).join(" ");
}

/** The texts about all images of a panel; with two images, each text begins with the name of its image. */
function eachStage(panel, textOf) {
  const stages = panel.sides.filter((side) => side.kind === "image");
  return stages.map((stage) => textOf(stage, stages.length > 1 ? `${stage.name}: ` : ""));
}

const quotedWords = (panel, words) => quoteWords(words.map((word) => panel.text.words[word].text));

/** Whether the image hardly matters for words: their map is noise, or small beside the largest score of the table. */
function hardlyMatters(panel, stage, words, map) {
  if (stage.pale || words.every((word) => panel.text.words[word].pale)) return true;
  return maxAbs(map.scores) < HARDLY * maxAbs(panel.table.rows.flat());
}

/** What is in focus on an image: the words of a box or patch, or the place of the selected words. */
function stageSentence(view, panel, stage, prefix) {
  const { point, box } = view.focusOf(stage), map = view.mapOf(panel, stage), words = stage === panel.image ? view.selectedWords(panel) : [];
  if (point && !patchAt(map, point)) return `${prefix}The model did not see this part of the image.`;
  if (point || box) {
    const place = box ? "In the box" : "Here", score = box ? weightedSum(map.scores, boxWeights(map, box)) : map.scores[patchAt(map, point).index];
    return `${prefix}${place}: ${strongestWords(view, panel, stage) || formatSigned(score)}.`;
  }
  if (!words.length) return panel.table ? HINT : "";
  const highest = describeRegion(map, map.scores), lowest = describeRegion(map, map.scores.map((score) => -score));
  const quoted = quotedWords(panel, words);
  if (hardlyMatters(panel, stage, words, map)) return `${prefix}The image hardly matters for ${quoted}.`;
  if (sum(map.scores) <= 0) return `${prefix}The image lowers the score of ${quoted}, mostly ${lowest.place}.`;
  const seen = `${prefix}The model sees ${quoted} mostly ${highest.place}.`;
  return lowest.score > highest.score ? `${seen} Other parts speak against it more strongly, mostly ${lowest.place}.` : seen;
}

/** The words with the largest scores in the box or patch in focus. */
function strongestWords(view, panel, stage) {
  if (!panel.table || stage !== panel.image) return "";
  const scores = view.wordScores(panel, panel.text);
  const order = scores.map((_, word) => word).filter((word) => panel.text.words[word].row !== null);
  order.sort((first, second) => Math.abs(scores[second]) - Math.abs(scores[first]));
  const strongest = order.slice(0, MAX_READOUT_WORDS), texts = formatRow(strongest.map((word) => scores[word]));
  return strongest.map((word, index) => `${panel.text.words[word].text} ${texts[index]}`).join(", ");
}

function stageSums(view, panel, stage, prefix) {
  const map = view.mapOf(panel, stage), words = stage === panel.image ? view.selectedWords(panel) : [];
  const { point, box } = view.focusOf(stage), whole = sum(map.scores.map(Math.abs)), sentences = [];
  if (words.length) {
    const rows = words.map((word) => panel.table.rows[panel.text.words[word].row]);
    const part = sum(rows.flat().map(Math.abs)), all = sum(panel.table.rows.flat().map(Math.abs));
    const whole = sum(words.map((word) => panel.text.words[word].score));
    sentences.push(`${prefix}Map of ${quotedWords(panel, words)}: total ${formatSigned(sum(map.scores))}, ` +
      `${formatPercent(part, all)} of the absolute score of all words.`);
    if (panel.separate) sentences.push(`The map is from the word-region table: what a word and the image add together. The score ` +
      `beside the word, ${formatSigned(whole)}, is from the explanation: what the word adds for this image.`);
  } else sentences.push(`${prefix}Whole map: total ${formatSigned(sum(map.scores))}.`);
  const patch = point && patchAt(map, point);
  if (box) {
    const weights = boxWeights(map, box);
    const [left, top, width, height] = view.toPixels({ image: stage.image, at: box }).map(Math.round);
    sentences.push(`Box of ${width} \u00d7 ${height} pixels at (${left}, ${top}): ${formatSigned(weightedSum(map.scores, weights))}, ` +
      `${formatPercent(weightedSum(map.scores.map(Math.abs), weights), whole)} of the absolute score of the map.`);
  } else if (patch) sentences.push(`Patch in row ${patch.row + 1}, column ${patch.column + 1}: ${formatSigned(map.scores[patch.index])}.`);
  return sentences.join(" ");
}
