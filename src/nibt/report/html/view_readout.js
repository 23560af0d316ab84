/* What the readout of a panel says. */

const OFTEN = 3; // words that a readout names

function readout(view, panel) {
  const stages = panel.places.filter((place) => place.kind === "image");
  const said = stages.flatMap((stage) => saidOf(view, panel, stage, stages.length > 1 ? `${stage.name}: ` : ""));
  if (view.corner) said.push("One corner is set: set the other, or press Escape.");
  return said.join(" ");
}

function saidOf(view, panel, stage, name) {
  const map = view.map(panel, stage), words = stage === panel.image ? view.chosen(panel) : [], said = [];
  const all = panel.table ? sum(panel.table.rows.flat().map(Math.abs)) : 0;
  if (words.length) {
    const rows = words.map((word) => panel.table.rows[panel.text.words[word].row]);
    const part = sum(rows.flat().map(Math.abs));
    said.push(`Region of ${quoted(words.map((word) => panel.text.words[word].text))}: ${signed(sum(map.scores))} in sum, ` +
      `${percent(part, all)} of the score of all words (signs left out), strongest at the ${whereabouts(map)}.`);
  }
  const { point, box } = view.place(panel, stage);
  if (box) {
    const weights = covered(map, box), whole = sum(map.scores.map(Math.abs));
    const [left, top, width, height] = view.pixels({ image: stage.image, at: box }).map(Math.round);
    said.push(`${name}Box of ${width} \u00d7 ${height} pixels at (${left}, ${top}): ${signed(weighed(map.scores, weights))}, ` +
      `${percent(weighed(map.scores.map(Math.abs), weights), whole)} of the map's score (signs left out).${given(view, panel, stage)}`);
  } else if (point) {
    const patch = patchAt(map, point);
    said.push(patch ? `${name}Patch in row ${patch.row + 1}, column ${patch.column + 1}: ${signed(map.scores[patch.index])}.${given(view, panel, stage)}`
      : `${name}The model did not see this part of the image.`);
  } else if (!words.length) {
    said.push(`${name}The whole map: ${signed(sum(map.scores))} in sum, strongest at the ${whereabouts(map)}. ${panel.signed ? "Red raises the score, blue lowers it." : "The stronger the color, the more it matters."}`);
    if (panel.table) said.push("Point at a word to see its region, click to keep it; point at the image, or mark a box on it, to see its words.");
  }
  return said;
}

/** What the place where people look gives to the words. */
function given(view, panel, stage) {
  if (!panel.table || stage !== panel.image) return "";
  const scores = view.scores(panel, panel.text);
  const order = scores.map((_, word) => word).filter((word) => panel.text.words[word].row !== null);
  order.sort((one, other) => Math.abs(scores[other]) - Math.abs(scores[one]));
  return ` Words there: ${order.slice(0, OFTEN).map((word) => `${panel.text.words[word].text} ${signed(scores[word])}`).join(", ")}.`;
}
