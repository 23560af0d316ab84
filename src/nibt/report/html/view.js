/* Makes a fragment of nibt.report.html.view interactive: nibtView(element). It sends no requests, and inserts captions and
 * labels only as text. view.py joins these files, in the order in which they are used, into one script. */

function createElement(kind, className, text) {
  const element = document.createElement(kind);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Set a text only if it differs, so that screen readers do not announce it again. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

class View {
  constructor(root) {
    this.root = root;
    this.data = JSON.parse(root.querySelector(".nibt-data").textContent);
    this.paleColors = { ...this.data.colors, ...this.data.pale };
    this.controls = { opacity: this.data.colors.cover, positiveOnly: this.data.positive_only, threshold: 0 };
    this.pinned = new Map(); // from a caption to the indices of its pinned words
    this.hover = null; // { caption, word } or { image, point }
    this.box = this.corner = this.draft = null; // { image, at }: the box, its first corner, the box that is being drawn
    this.cursor = null; // { stage, row, column, at }
    root.querySelector(".nibt-static")?.remove();
    this.panels = this.data.panels.map((panel, number) => this.buildPanel(panel, root.querySelector(`[data-panel="${number}"]`)));
    this.readouts = this.panels.map((panel) => panel.element.querySelector(".nibt-readout"));
    this.sums = this.panels.map((panel) => panel.element.querySelector(".nibt-sums"));
    root.prepend(this.buildControls());
    this.ready = this.loadImages().then(() => { this.draw(); root.dataset.ready = "true"; });
  }

  /* Built once */

  buildPanel(data, element) {
    const panel = { ...data, element, legends: element.querySelectorAll(".nibt-legend") };
    panel.sides = data.sides.map((side, number) => {
      const container = element.querySelector(`[data-side="${number}"]`);
      return side.kind === "image" ? this.buildStage(side, container, panel) : this.buildCaption(side, container, panel);
    });
    panel.textName = data.text;
    panel.image = panel.sides.find((side) => side.kind === "image");
    panel.text = panel.table && panel.sides.find((side) => side.kind === "text");
    return panel;
  }

  /** The words of a caption: buttons if they have regions. */
  buildCaption(side, container, panel) {
    const chips = [...container.querySelectorAll(".nibt-word")].map((chip, word) => {
      if (!panel.table || side.words[word].row === null) return chip;
      const button = createElement("button", "nibt-word");
      button.type = "button";
      button.append(...chip.childNodes);
      chip.replaceWith(button);
      const target = { caption: side.caption, word };
      button.addEventListener("click", () => this.togglePin(target));
      button.addEventListener("pointerenter", () => this.setHover(target));
      button.addEventListener("pointerleave", () => this.setHover(null));
      button.addEventListener("focus", () => button.matches(":focus-visible") && this.setHover(target));
      button.addEventListener("blur", () => this.setHover(null));
      return button;
    });
    const scale = createElement("div", "nibt-scale");
    container.querySelector(".nibt-words").after(scale);
    return { ...side, chips, scale, scaleLabels: createScaleLabels(scale) };
  }

  /** An image with its map, its box and its cursor. */
  buildStage(side, container, panel) {
    const frame = container.querySelector(".nibt-stage"), canvas = createElement("canvas");
    const stage = { largest: maxAbs(side.scores), ...side, frame, canvas };
    stage.boxElement = createElement("div", "nibt-box");
    stage.cursorElement = createElement("div", "nibt-cursor");
    stage.scale = createElement("div", "nibt-scale");
    stage.scaleLabels = createScaleLabels(stage.scale);
    stage.title = createElement("p", "nibt-map-title");
    frame.before(stage.title);
    frame.tabIndex = 0;
    frame.setAttribute("role", "application");
    frame.setAttribute("aria-label", "Image with its map. Arrow keys move between patches, Enter sets the first and then " +
      "the second corner of a box, Escape clears the box.");
    container.append(stage.scale);
    addPointerListeners(this, stage);
    frame.addEventListener("keydown", (event) => onKeyDown(this, event, stage, panel));
    frame.addEventListener("blur", () => { this.cursor = null; this.draw(); });
    return stage;
  }

  async loadImages() {
    const images = await Promise.all(this.data.images.map(async (_, number) => {
      const image = this.root.querySelector(`img[data-image="${number}"]`);
      await image.decode();
      return image;
    }));
    const photos = images.map((image) => preparePhoto(image, this.data.colors));
    for (const stage of this.stages()) {
      stage.photo = photos[stage.image];
      Object.assign(stage.canvas, { width: stage.photo.width, height: stage.photo.height });
      stage.frame.replaceChildren(stage.canvas, stage.boxElement, stage.cursorElement);
    }
  }

  stages() { return this.panels.flatMap((panel) => panel.sides.filter((side) => side.kind === "image")); }

  buildControls() {
    const bar = createElement("div", "nibt-controls"), hasImages = this.stages().length > 0;
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Display options");
    const addSlider = (text, name, max) => {
      const label = createElement("label", "", text), input = createElement("input");
      const output = createElement("output", "", formatPercent(this.controls[name], 1));
      Object.assign(input, { type: "range", min: 0, max, step: 0.05, value: this.controls[name], name });
      input.addEventListener("input", () => {
        this.controls[name] = Number(input.value);
        output.textContent = formatPercent(this.controls[name], 1);
        this.draw();
      });
      label.append(input, output);
      bar.append(label);
    };
    if (hasImages) addSlider("Opacity", "opacity", 1);
    addSlider("Hide below", "threshold", 0.95);
    const label = createElement("label"), input = createElement("input");
    Object.assign(input, { type: "checkbox", name: "positive_only", checked: this.controls.positiveOnly });
    input.addEventListener("change", () => { this.controls.positiveOnly = input.checked; this.draw(); });
    label.append(input, "Positive scores only");
    this.clearButton = createElement("button", "nibt-clear", "Clear selection");
    this.clearButton.type = "button";
    this.clearButton.addEventListener("click", () => this.clear());
    bar.append(label);
    if (hasImages) bar.append(this.clearButton);
    return bar;
  }

  /* Changed by the reader */

  setHover(target) { this.hover = target; this.draw(); }

  /** Pin a word, or unpin it, in every panel of its caption. */
  togglePin({ caption, word }) {
    const pinned = this.pinned.get(caption) || new Set();
    if (!pinned.delete(word)) pinned.add(word);
    this.pinned.set(caption, pinned);
    this.announce(this.panels.findIndex((panel) => panel.text?.caption === caption));
    this.notify();
  }

  clear() {
    this.pinned.clear();
    this.box = this.corner = this.hover = null;
    this.notify();
  }

  /** Set the box of an image; remove it if it is null or empty. */
  setBox(image, at) {
    this.corner = null;
    this.box = at && at[2] > 0 && at[3] > 0 ? { image, at } : null;
    this.notify();
  }

  /** Let screen readers announce only the readout of the panel that is in use. */
  announce(number) {
    this.readouts.forEach((readout, panel) => readout.setAttribute("aria-live", panel === number ? "polite" : "off"));
  }

  /** Redraw, and dispatch the event nibt-select with the new selection. */
  notify() {
    this.draw();
    const { words, box } = this.state();
    this.root.dispatchEvent(new CustomEvent("nibt-select", { bubbles: true, detail: { words, box } }));
  }

  /* Shown */

  /** The words whose region a panel shows: the word under the pointer, or the pinned words. */
  selectedWords(panel) {
    if (!panel.text) return [];
    const pinned = [...(this.pinned.get(panel.text.caption) || [])].sort((first, second) => first - second);
    const { caption, word } = this.hover || {};
    const selected = caption === panel.text.caption && !pinned.includes(word) ? [word] : pinned;
    return selected.filter((index) => panel.text.words[index]?.row !== null && panel.text.words[index] !== undefined);
  }

  /** The map over an image: that of the result, or the region of the selected words, which has its own scale. */
  mapOf(panel, stage) {
    const words = stage === panel.image ? this.selectedWords(panel) : [];
    if (!words.length) return stage;
    const rows = words.map((word) => panel.table.rows[panel.text.words[word].row]);
    const scores = rows[0].map((_, patch) => sum(rows.map((row) => row[patch])));
    const ofRows = words.map((word) => panel.table.errors[panel.text.words[word].row]); // of several words, they add up at most
    const errors = ofRows.every(Boolean) ? scores.map((_, patch) => sum(ofRows.map((row) => row[patch]))) : null;
    const part = words.length === 1 ? panel.table.parts[panel.text.words[words[0]].row] : null;
    return { grid: panel.table.grid, region: panel.table.region, scores, errors, part, largest: maxAbs(scores) };
  }

  /** What is in focus on an image: its box, or else a point, or neither. */
  focusOf(stage) {
    const box = this.boxOn(stage), cursor = this.cursor?.stage.image === stage.image && !this.box ? this.cursor.at : null;
    if (box) return { point: null, box };
    const hovered = this.hover?.image === stage.image && !this.draft ? this.hover.point : null;
    return { point: hovered || (cursor && !this.draft ? [cursor[0] + cursor[2] / 2, cursor[1] + cursor[3] / 2] : null) };
  }

  /** The box that is shown on an image: the one that is being drawn, or the finished one. */
  boxOn(stage) { return [this.draft, this.box].find((box) => box?.image === stage.image)?.at; }

  /** The scores of the words of a caption: of the point or box in focus, or else those of the result. */
  wordScores(panel, text) {
    const own = text.words.map((word) => word.score);
    if (!panel.table || text !== panel.text) return own;
    const { point, box } = this.focusOf(panel.image), patch = point && patchAt(panel.table, point);
    if (!patch && !box) return own;
    const weights = box && boxWeights(panel.table, box);
    const scoreOf = (row) => (row === null ? 0 : box ? weightedSum(panel.table.rows[row], weights) : panel.table.rows[row][patch.index]);
    return text.words.map((word) => scoreOf(word.row));
  }

  draw() {
    if (!this.root.isConnected && this.root.dataset.ready) return;
    this.panels.forEach((panel, number) => {
      for (const side of panel.sides) side.kind === "image" ? this.drawImage(panel, side) : this.drawWords(panel, side);
      setText(this.readouts[number], readoutText(this, panel));
      setText(this.sums[number], sumsText(this, panel));
      const [ofAll, ofPositive] = panel.legends;
      ofAll.hidden = this.controls.positiveOnly;
      ofPositive.hidden = !this.controls.positiveOnly;
    });
    this.clearButton.disabled = !(this.box || this.corner || [...this.pinned.values()].some((words) => words.size));
  }

  /** The colors of a side, which are pale if its map is noise. */
  colorsOf(side) { return side.pale ? this.paleColors : this.data.colors; }

  drawImage(panel, stage) {
    if (!stage.photo) return;
    const selected = stage === panel.image ? this.selectedWords(panel) : [], { opacity, positiveOnly, threshold } = this.controls;
    const paintKey = JSON.stringify([selected, opacity, positiveOnly, threshold]);
    if (stage.paintKey !== paintKey) { // painting is slow: only when the picture changes
      const map = this.mapOf(panel, stage), hardly = selected.length && hardlyMatters(panel, stage, selected, map);
      const colors = hardly ? this.paleColors : this.colorsOf(stage);
      stage.paintKey = paintKey;
      paintHeatmap(stage.canvas, stage.photo, map, colors, this.controls);
      drawScale(stage, map.scores, map.largest, colors, opacity, positiveOnly, panel.signed);
      setText(stage.title, mapTitle(this, panel, stage));
    }
    const cursor = this.cursor?.stage === stage ? this.cursor.at : this.corner?.image === stage.image ? this.corner.at : null;
    for (const [element, at] of [[stage.boxElement, this.boxOn(stage)], [stage.cursorElement, cursor]]) {
      element.hidden = !at;
      if (at) ["left", "top", "width", "height"].forEach((property, index) => { element.style[property] = `${100 * (at[index] ?? 0)}%`; });
    }
  }

  drawWords(panel, text) {
    const scores = this.wordScores(panel, text), colors = this.colorsOf(text);
    const evidence = scores.filter((_, word) => !text.words[word].pale);
    const own = maxAbs(evidence.length ? evidence : scores);
    const largest = panel.table ? own : text.largest ?? own; // two captions share a scale
    const pinned = this.pinned.get(text.caption), texts = formatRow(scores);
    const errors = text.words.map((word, number) => (scores[number] === word.score ? word.error : null)); // of its own score only
    drawScale(text, scores, largest, colors, colors.cover, this.controls.positiveOnly, panel.signed);
    text.chips.forEach((chip, word) => {
      const ofWord = text.words[word].pale ? this.paleColors : colors;
      const drawn = strength(fadedScore(scores[word], errors[word], colors), largest, this.controls);
      const background = blendColor(colors.paper, drawn, ofWord, colors.cover);
      chip.style.backgroundColor = cssColor(background);
      chip.style.color = inkOn(background);
      chip.lastElementChild.textContent = !errors[word] ? texts[word] : `${texts[word]} \u00b1 ${Number(errors[word].toPrecision(2))}`;
      chip.title = `${text.words[word].text} ${formatSigned(scores[word])}`;
      if (chip.localName === "button") chip.setAttribute("aria-pressed", String(Boolean(pinned?.has(word))));
    });
  }

  /* For other scripts */

  /** A box in pixels of the original image. */
  toPixels({ image, at }) {
    const [width, height] = this.data.images[image];
    return [at[0] * width, at[1] * height, at[2] * width, at[3] * height];
  }

  /** The selection, the controls, and the scores that are shown. */
  state() {
    const captions = new Map(this.panels.filter((panel) => panel.text).map((panel) => [panel.text.caption, panel.text]));
    const words = [...captions].flatMap(([caption, text]) => [...(this.pinned.get(caption) || [])].sort((first, second) => first - second)
      .map((index) => ({ caption, index, text: text.words[index].text })));
    return {
      words, box: this.box && this.toPixels(this.box), image: this.box ? this.box.image : null, controls: { ...this.controls },
      panels: this.panels.map((panel) => ({
        maps: panel.sides.filter((side) => side.kind === "image").map((stage) => [...this.mapOf(panel, stage).scores]),
        words: panel.sides.filter((side) => side.kind === "text").map((text) => this.wordScores(panel, text)),
      })),
    };
  }

  /** Pin these words and no others. A word is an index or a text, in every caption that has it, or a word of state(). */
  select(words) {
    this.pinned.clear();
    for (const { text, table } of this.panels.filter((panel) => panel.text)) {
      const indices = text.words.map((_, index) => index).filter((index) => table && text.words[index].row !== null && words.some((word) =>
        word === index || String(word).toLowerCase() === text.words[index].text.toLowerCase() ||
        (word.caption === text.caption && word.index === index)));
      this.pinned.set(text.caption, new Set(indices));
    }
    this.notify();
  }
}

const views = new WeakMap(); // from an element to its View

window.nibtView = (root) => {
  const element = root.matches(".nibt-view") ? root : root.querySelector(".nibt-view");
  if (!element) throw new Error("nibtView expects an element of class nibt-view, or an element that contains one");
  if (!views.has(element)) views.set(element, new View(element));
  const view = views.get(element);
  return { root: element, ready: view.ready, state: () => view.state(), select: (words) => view.select(words), clear: () => view.clear() };
};
