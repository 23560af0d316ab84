/* Brings a fragment of nibt.report.html.view to life: nibtView(element). Nothing is asked of a network; texts are only ever
 * set as text. view.py joins these files, in the order of their use, into one script. */

function made(kind, name, text) {
  const element = document.createElement(kind);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

class View {
  constructor(root) {
    this.root = root;
    this.data = JSON.parse(root.querySelector(".nibt-data").textContent);
    this.controls = { opacity: this.data.colours.cover, positive: this.data.positive, threshold: 0 };
    this.pinned = new Map(); // the numbers of words, by caption
    this.hover = null; // { caption, word } or { image, point }
    this.box = this.corner = this.draft = null; // { image, at }: the box, its first corner, the box that is being drawn
    this.cursor = null; // { stage, row, column, at }
    root.querySelector(".nibt-static")?.remove();
    this.panels = this.data.panels.map((panel, number) => this.panel(panel, root.querySelector(`[data-panel="${number}"]`)));
    this.readouts = this.panels.map((panel) => panel.element.querySelector(".nibt-readout"));
    root.prepend(this.bar());
    this.ready = this.images().then(() => { this.draw(); root.dataset.ready = "true"; });
  }

  /* -- made once -- */

  panel(data, element) {
    const panel = { ...data, element };
    panel.places = data.places.map((place, number) => {
      const home = element.querySelector(`[data-place="${number}"]`);
      return place.kind === "image" ? this.stage(place, home, panel) : this.words(place, home, panel);
    });
    panel.image = panel.places.find((place) => place.kind === "image");
    panel.text = panel.table && panel.places.find((place) => place.kind === "text");
    if (panel.table) panel.table.most = Math.max(...panel.table.rows.map(largest));
    return panel;
  }

  words(place, home, panel) {
    const chips = [...home.querySelectorAll(".nibt-word")].map((chip, word) => {
      if (!panel.table || place.words[word].row === null) return chip;
      const button = made("button", "nibt-word");
      button.type = "button";
      button.append(...chip.childNodes);
      chip.replaceWith(button);
      const seen = { caption: place.caption, word };
      button.addEventListener("click", () => this.toggle(seen));
      button.addEventListener("pointerenter", () => this.look(seen));
      button.addEventListener("pointerleave", () => this.look(null));
      button.addEventListener("focus", () => button.matches(":focus-visible") && this.look(seen));
      button.addEventListener("blur", () => this.look(null));
      return button;
    });
    const scale = made("div", "nibt-scale");
    home.querySelector(".nibt-words").after(scale);
    return { ...place, chips, scale, ends: ends(scale) };
  }

  stage(place, home, panel) {
    const frame = home.querySelector(".nibt-stage"), canvas = made("canvas");
    const stage = { ...place, frame, canvas, most: largest(place.scores), shown: null };
    stage.rectangle = made("div", "nibt-box");
    stage.patch = made("div", "nibt-cursor");
    stage.scale = made("div", "nibt-scale");
    stage.ends = ends(stage.scale);
    frame.tabIndex = 0;
    frame.setAttribute("role", "application");
    frame.setAttribute("aria-label", "Image with its map. Arrow keys move over the patches, Enter marks a corner of " +
      "a box and then the other, Escape clears.");
    home.append(stage.scale);
    pointing(this, stage);
    frame.addEventListener("keydown", (event) => pressed(this, event, stage, panel));
    frame.addEventListener("blur", () => { this.cursor = null; this.draw(); });
    return stage;
  }

  async images() {
    const images = await Promise.all(this.data.images.map(async (_, number) => {
      const image = this.root.querySelector(`img[data-image="${number}"]`);
      await image.decode();
      return image;
    }));
    const photos = images.map((image) => photographed(image, this.data.colours));
    for (const stage of this.stages()) {
      stage.photo = photos[stage.image];
      Object.assign(stage.canvas, { width: stage.photo.width, height: stage.photo.height });
      stage.frame.replaceChildren(stage.canvas, stage.rectangle, stage.patch);
    }
  }

  stages() { return this.panels.flatMap((panel) => panel.places.filter((place) => place.kind === "image")); }

  bar() {
    const bar = made("div", "nibt-controls"), stages = this.stages().length;
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "What is shown");
    const slider = (text, name, most) => {
      const label = made("label", "", text), input = made("input"), value = made("output", "", percent(this.controls[name], 1));
      Object.assign(input, { type: "range", min: 0, max: most, step: 0.05, value: this.controls[name], name });
      input.addEventListener("input", () => {
        this.controls[name] = Number(input.value);
        value.textContent = percent(this.controls[name], 1);
        this.draw();
      });
      label.append(input, value);
      bar.append(label);
    };
    if (stages) slider("Opacity", "opacity", 1);
    slider("Hide below", "threshold", 0.95);
    const label = made("label"), input = made("input");
    Object.assign(input, { type: "checkbox", name: "positive_only", checked: this.data.positive });
    input.addEventListener("change", () => { this.controls.positive = input.checked; this.draw(); });
    label.append(input, "Only what speaks for the pair");
    this.clearing = made("button", "nibt-clear", "Clear selection");
    this.clearing.type = "button";
    this.clearing.addEventListener("click", () => this.clear());
    bar.append(label);
    if (stages) bar.append(this.clearing);
    return bar;
  }

  /* -- what people do -- */

  look(seen) { this.hover = seen; this.draw(); }

  /** A word is pinned, or let go, in every panel of its caption. */
  toggle({ caption, word }) {
    const pinned = this.pinned.get(caption) || new Set();
    if (!pinned.delete(word)) pinned.add(word);
    this.pinned.set(caption, pinned);
    this.speak(this.panels.findIndex((panel) => panel.text?.caption === caption));
    this.tell();
  }

  clear() {
    this.pinned.clear();
    this.box = this.corner = this.hover = null;
    this.tell();
  }

  mark(image, at) {
    this.corner = null;
    this.box = at && at[2] > 0 && at[3] > 0 ? { image, at } : null;
    this.tell();
  }

  /** Only the panel that somebody works with is read aloud. */
  speak(number) {
    this.readouts.forEach((readout, panel) => readout.setAttribute("aria-live", panel === number ? "polite" : "off"));
  }

  tell() {
    this.draw();
    const { words, box } = this.state();
    this.root.dispatchEvent(new CustomEvent("nibt-select", { bubbles: true, detail: { words, box } }));
  }

  /* -- what is shown -- */

  /** The words whose region a panel shows: the one that is looked at, or those that are pinned. */
  chosen(panel) {
    if (!panel.text) return [];
    const pinned = [...(this.pinned.get(panel.text.caption) || [])].sort((one, other) => one - other);
    const { caption, word } = this.hover || {};
    const among = caption === panel.text.caption && !pinned.includes(word) ? [word] : pinned;
    return among.filter((number) => panel.text.words[number]?.row !== null && panel.text.words[number] !== undefined);
  }

  /** The map over an image: that of the answer, or the region of the chosen words. */
  map(panel, stage) {
    const words = stage === panel.image ? this.chosen(panel) : [];
    if (!words.length) return stage;
    const rows = words.map((word) => panel.table.rows[panel.text.words[word].row]);
    const scores = rows[0].map((_, patch) => sum(rows.map((row) => row[patch])));
    return { grid: panel.table.grid, region: panel.table.region, scores, most: Math.max(panel.table.most, largest(scores)) };
  }

  /** Where people look in a panel: one patch, a box, or nowhere in particular. */
  place(panel, stage) {
    const cursor = this.cursor?.stage.image === stage.image ? this.cursor.at : null;
    const point = this.hover?.image === stage.image && !this.draft ? this.hover.point
      : cursor && !this.draft && !this.box ? [cursor[0] + cursor[2] / 2, cursor[1] + cursor[3] / 2] : null;
    const box = [this.draft, this.box].find((one) => one?.image === stage.image);
    return { point, box: point && !this.corner ? null : box?.at };
  }

  /** The score of each word of a caption, of the place where people look if that is known. */
  scores(panel, text) {
    const own = text.words.map((word) => word.score);
    if (!panel.table || text !== panel.text) return own;
    const { point, box } = this.place(panel, panel.image), patch = point && patchAt(panel.table, point);
    if (!patch && !box) return own;
    const weights = box && covered(panel.table, box);
    const given = (row) => (row === null ? 0 : box ? weighed(panel.table.rows[row], weights) : panel.table.rows[row][patch.index]);
    return text.words.map((word) => given(word.row));
  }

  draw() {
    if (!this.root.isConnected && this.root.dataset.ready) return;
    this.panels.forEach((panel, number) => {
      for (const place of panel.places) place.kind === "image" ? this.drawPicture(panel, place) : this.drawWords(panel, place);
      const told = readout(this, panel);
      if (this.readouts[number].textContent !== told) this.readouts[number].textContent = told;
    });
    this.clearing.disabled = !(this.box || this.corner || [...this.pinned.values()].some((words) => words.size));
  }

  drawPicture(panel, stage) {
    if (!stage.photo) return;
    const { colours } = this.data, { opacity, positive, threshold } = this.controls;
    const map = this.map(panel, stage), look = JSON.stringify([this.chosen(panel), opacity, positive, threshold]);
    if (stage.look !== look) {
      stage.look = look;
      stage.shown = map;
      paint(stage.canvas, stage.photo, map, colours, this.controls);
      drawScale(stage, map.scores, map.most, colours, opacity, positive, panel.signed);
    }
    const boxes = [[stage.rectangle, [this.draft, this.box].find((one) => one?.image === stage.image)?.at],
      [stage.patch, this.cursor?.stage === stage ? this.cursor.at : this.corner?.image === stage.image ? this.corner.at : null]];
    for (const [element, at] of boxes) {
      element.hidden = !at;
      if (at) ["left", "top", "width", "height"].forEach((side, place) => { element.style[side] = `${100 * (at[place] ?? 0)}%`; });
    }
  }

  drawWords(panel, text) {
    const scores = this.scores(panel, text), most = largest(scores), { colours } = this.data;
    const pinned = this.pinned.get(text.caption);
    drawScale(text, scores, most, colours, colours.cover, this.controls.positive, panel.signed);
    text.chips.forEach((chip, word) => {
      const background = blended(colours.paper, strength(scores[word], most, this.controls), colours, colours.cover);
      chip.style.backgroundColor = css(background);
      chip.style.color = inkOn(background);
      chip.lastElementChild.textContent = signed(scores[word]);
      chip.title = `${text.words[word].text} ${signed(scores[word])}`;
      if (chip.localName === "button") chip.setAttribute("aria-pressed", String(Boolean(pinned?.has(word))));
    });
  }

  /* -- for programs -- */

  pixels({ image, at }) {
    const [width, height] = this.data.images[image];
    return [at[0] * width, at[1] * height, at[2] * width, at[3] * height];
  }

  state() {
    const captions = new Map(this.panels.filter((panel) => panel.text).map((panel) => [panel.text.caption, panel.text]));
    const words = [...captions].flatMap(([caption, text]) => [...(this.pinned.get(caption) || [])].sort((one, other) => one - other)
      .map((index) => ({ caption, index, text: text.words[index].text })));
    return {
      words, box: this.box && this.pixels(this.box), image: this.box ? this.box.image : null, controls: { ...this.controls },
      panels: this.panels.map((panel) => ({
        maps: panel.places.filter((place) => place.kind === "image").map((stage) => [...this.map(panel, stage).scores]),
        words: panel.places.filter((place) => place.kind === "text").map((text) => this.scores(panel, text)),
      })),
    };
  }

  /** Pin these words and no others: numbers or texts (in every caption that has them), or what state() gave. */
  select(words) {
    this.pinned.clear();
    for (const { text, table } of this.panels.filter((panel) => panel.text)) {
      const meant = text.words.map((_, index) => index).filter((index) => table && text.words[index].row !== null && words.some((word) =>
        word === index || String(word).toLowerCase() === text.words[index].text.toLowerCase() ||
        (word.caption === text.caption && word.index === index)));
      this.pinned.set(text.caption, new Set(meant));
    }
    this.tell();
  }
}

const alive = new WeakMap();

window.nibtView = (root) => {
  const element = root.matches(".nibt-view") ? root : root.querySelector(".nibt-view");
  if (!element) throw new Error("nibtView expects an element with the class nibt-view, or one around it");
  if (!alive.has(element)) alive.set(element, new View(element));
  const view = alive.get(element);
  return { root: element, ready: view.ready, state: () => view.state(), select: (words) => view.select(words), clear: () => view.clear() };
};
