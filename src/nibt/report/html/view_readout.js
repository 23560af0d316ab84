/* The text of the readout of a panel. */

const MAX_READOUT_WORDS = 3;

/** The readout of a panel. */
function readoutText(view, panel) {
  const stages = panel.sides.filter((side) => side.kind === "image");
  const sentences = stages.flatMap((stage) => stageSentences(view, panel, stage, stages.length > 1 ? `${stage.name}: ` : ""));
  if (view.corner) sentences.push("One corner is set. Set the opposite one, or press Escape to cancel.");
  return sentences.join(" ");
}

/** The sentences about one image: the selected words, and the box or patch that is shown. */
function stageSentences(view, panel, stage, prefix) {
  const map = view.mapOf(panel, stage), words = stage === panel.image ? view.selectedWords(panel) : [], sentences = [];
  if (words.length) {
    const rows = words.map((word) => panel.table.rows[panel.text.words[word].row]);
    const part = sum(rows.flat().map(Math.abs)), whole = sum(panel.table.rows.flat().map(Math.abs));
    sentences.push(`Region of ${quoteWords(words.map((word) => panel.text.words[word].text))}: total ${formatSigned(sum(map.scores))}, ` +
      `${formatPercent(part, whole)} of the absolute score of all words, strongest at the ${describePeak(map)}.`);
  }
  const { point, box } = view.focusOf(stage);
  if (box) {
    const weights = boxWeights(map, box), whole = sum(map.scores.map(Math.abs));
    const [left, top, width, height] = view.toPixels({ image: stage.image, at: box }).map(Math.round);
    sentences.push(`${prefix}Box of ${width} \u00d7 ${height} pixels at (${left}, ${top}): ${formatSigned(weightedSum(map.scores, weights))}, ` +
      `${formatPercent(weightedSum(map.scores.map(Math.abs), weights), whole)} of the absolute score of the map.${strongestWords(view, panel, stage)}`);
  } else if (point) {
    const patch = patchAt(map, point);
    sentences.push(patch ? `${prefix}Patch in row ${patch.row + 1}, column ${patch.column + 1}: ${formatSigned(map.scores[patch.index])}.${strongestWords(view, panel, stage)}`
      : `${prefix}The model did not see this part of the image.`);
  } else if (!words.length) {
    const legend = panel.signed ? "Red raises the score, blue lowers it." : "A stronger color means a larger score.";
    sentences.push(`${prefix}Whole map: total ${formatSigned(sum(map.scores))}, strongest at the ${describePeak(map)}. ${legend}`);
    if (panel.table) sentences.push("Point at a word to see its region; click to keep it. Point at the image, or mark a box on it, to see its words.");
  }
  return sentences;
}

/** The words with the largest scores in the box or patch that is shown. */
function strongestWords(view, panel, stage) {
  if (!panel.table || stage !== panel.image) return "";
  const scores = view.wordScores(panel, panel.text);
  const order = scores.map((_, word) => word).filter((word) => panel.text.words[word].row !== null);
  order.sort((first, second) => Math.abs(scores[second]) - Math.abs(scores[first]));
  return ` Words there: ${order.slice(0, MAX_READOUT_WORDS).map((word) => `${panel.text.words[word].text} ${formatSigned(scores[word])}`).join(", ")}.`;
}
