/* Brings a fragment of nibt.report.view to life: nibtView(element). Nothing is asked of a network; texts are only ever
 * set as text. The drawing is that of heatmap.py and colours.py, whose constants come with the data. */
(() => {
  "use strict";
  const OFTEN = 3; // words that a readout names
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

  function made(kind, name, text) {
    const element = document.createElement(kind);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  /* ---- numbers ---- */

  /** The share of each patch that lies in a box (all in shares of the picture), as Interaction.for_region counts. */
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

  /* ---- colours ---- */

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

  /* ---- the picture ---- */

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

  /* ---- the view ---- */

  class View {
    constructor(root) {
      this.root = root;
      this.data = JSON.parse(root.querySelector(".nibt-data").textContent);
      this.controls = { opacity: this.data.colours.cover, positive: this.data.positive, threshold: 0 };
      this.pinned = new Map(); // the numbers of words, by caption
      this.hover = null; // { caption, word } or { picture, point }
      this.box = this.corner = this.cursor = null; // { picture, at }, { picture, at }, { panel, row, column }
      root.querySelector(".nibt-static")?.remove();
      this.panels = this.data.panels.map((panel, number) => this.panel(panel, root.querySelector(`[data-panel="${number}"]`)));
      this.readouts = this.panels.map((panel) => panel.element.querySelector(".nibt-readout"));
      root.prepend(this.bar());
      this.ready = this.pictures().then(() => { this.draw(); root.dataset.ready = "true"; });
    }

    get pickable() { return this.panels.some((panel) => panel.table); }

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
      return { ...place, chips };
    }

    stage(place, home, panel) {
      const frame = home.querySelector(".nibt-stage"), canvas = made("canvas");
      const stage = { ...place, frame, canvas, most: largest(place.scores), shown: null };
      stage.rectangle = made("div", "nibt-box");
      stage.patch = made("div", "nibt-cursor");
      stage.scale = made("div", "nibt-scale");
      stage.ends = ["", "", ""].map((text) => stage.scale.appendChild(made("span", "", text)));
      frame.tabIndex = 0;
      frame.setAttribute("role", "application");
      frame.setAttribute("aria-label", "Picture with its map. Arrow keys move over the patches, Enter marks a corner of " +
        "a box and then the other, Escape clears.");
      home.append(stage.scale);
      this.pointing(stage);
      frame.addEventListener("keydown", (event) => this.key(event, stage, panel));
      frame.addEventListener("blur", () => { this.cursor = null; this.draw(); });
      return stage;
    }

    async pictures() {
      const images = await Promise.all(this.data.pictures.map(async (_, number) => {
        const image = this.root.querySelector(`img[data-picture="${number}"]`);
        await image.decode();
        return image;
      }));
      const photos = images.map((image) => photographed(image, this.data.colours));
      for (const stage of this.stages()) {
        stage.photo = photos[stage.picture];
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
      Object.assign(input, { type: "checkbox", name: "positive", checked: this.data.positive });
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

    mark(picture, at) {
      this.corner = null;
      this.box = at && at[2] > 0 && at[3] > 0 ? { picture, at } : null;
      this.tell();
    }

    pointing(stage) {
      let down = null;
      const { frame, picture } = stage;
      const at = (event) => {
        const edge = frame.getBoundingClientRect();
        return [limited((event.clientX - edge.left) / edge.width, 0, 1), limited((event.clientY - edge.top) / edge.height, 0, 1)];
      };
      const far = ([x, y]) => Math.hypot((x - down[0]) * frame.clientWidth, (y - down[1]) * frame.clientHeight) > 5;
      const boxed = (one, other) => spanned([...one, 0, 0], [...other, 0, 0]);
      frame.addEventListener("pointerdown", (event) => {
        if (event.button || !event.isPrimary) return;
        down = at(event);
        if (event.pointerType !== "touch") frame.setPointerCapture(event.pointerId);
      });
      frame.addEventListener("pointermove", (event) => {
        const here = at(event), start = this.corner?.picture === picture ? this.corner.at : null;
        this.hover = { picture, point: here };
        if (down && event.pointerType !== "touch" && far(here)) this.draft = { picture, at: boxed(down, here) };
        else if (start && start.length === 2) this.draft = { picture, at: boxed(start, here) };
        this.draw();
      });
      frame.addEventListener("pointerup", (event) => {
        if (!down) return;
        const here = at(event), start = this.corner?.picture === picture ? this.corner.at : null, dragged = far(here);
        this.draft = null;
        this.speak(this.panels.findIndex((panel) => panel.places.includes(stage)));
        if (dragged && event.pointerType !== "touch") this.mark(picture, boxed(down, here));
        else if (start && start.length === 2) this.mark(picture, boxed(start, here));
        else if (!dragged) { this.corner = { picture, at: here }; this.draw(); }
        down = null;
      });
      frame.addEventListener("pointercancel", () => { down = this.draft = null; this.look(null); });
      frame.addEventListener("pointerleave", () => { this.draft = null; this.look(null); });
    }

    key(event, stage, panel) {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const cells = panel.table || stage, [rows, columns] = cells.grid;
      this.speak(this.panels.indexOf(panel));
      if (event.key in steps) {
        const from = this.cursor?.stage === stage ? this.cursor : { row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
        const [down, across] = this.cursor?.stage === stage ? steps[event.key] : [0, 0];
        const row = limited(from.row + down, 0, rows - 1), column = limited(from.column + across, 0, columns - 1);
        this.cursor = { stage, row, column, at: patchBox(cells, row, column) };
        if (this.corner?.at.length === 4) this.draft = { picture: stage.picture, at: spanned(this.corner.at, this.cursor.at) };
        this.draw();
      } else if ((event.key === "Enter" || event.key === " ") && this.cursor?.stage === stage) {
        const here = this.cursor.at;
        this.draft = null;
        if (this.corner?.at.length === 4 && this.corner.picture === stage.picture) this.mark(stage.picture, spanned(this.corner.at, here));
        else { this.corner = { picture: stage.picture, at: here }; this.draw(); }
      } else if (event.key === "Escape") {
        this.cursor = this.draft = null;
        this.mark(stage.picture, null);
      } else return;
      event.preventDefault();
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

    /** The map over a picture: that of the answer, or the region of the chosen words. */
    map(panel, stage) {
      const words = stage === panel.image ? this.chosen(panel) : [];
      if (!words.length) return stage;
      const rows = words.map((word) => panel.table.rows[panel.text.words[word].row]);
      const scores = rows[0].map((_, patch) => sum(rows.map((row) => row[patch])));
      return { grid: panel.table.grid, region: panel.table.region, scores, most: Math.max(panel.table.most, largest(scores)) };
    }

    /** Where people look in a panel: one patch, a box, or nowhere in particular. */
    place(panel, stage) {
      const cursor = this.cursor?.stage.picture === stage.picture ? this.cursor.at : null;
      const point = this.hover?.picture === stage.picture && !this.draft ? this.hover.point
        : cursor && !this.draft && !this.box ? [cursor[0] + cursor[2] / 2, cursor[1] + cursor[3] / 2] : null;
      const box = [this.draft, this.box].find((one) => one?.picture === stage.picture);
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
        const told = this.told(panel);
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
        const end = (share) => css(blended(colours.paper, share, colours, opacity));
        const stops = positive ? [0, 1] : [-1, 0, 1];
        stage.scale.style.setProperty("--nibt-scale", `linear-gradient(to right, ${stops.map(end).join(", ")})`);
        const texts = [positive ? "0" : `${signed(-map.most)} against`, positive ? "" : "0", `for ${signed(map.most)}`];
        stage.ends.forEach((text, place) => { text.textContent = texts[place]; });
      }
      const boxes = [[stage.rectangle, [this.draft, this.box].find((one) => one?.picture === stage.picture)?.at],
        [stage.patch, this.cursor?.stage === stage ? this.cursor.at : this.corner?.picture === stage.picture ? this.corner.at : null]];
      for (const [element, at] of boxes) {
        element.hidden = !at;
        if (at) ["left", "top", "width", "height"].forEach((side, place) => { element.style[side] = `${100 * (at[place] ?? 0)}%`; });
      }
    }

    drawWords(panel, text) {
      const scores = this.scores(panel, text), most = largest(scores), { colours } = this.data;
      const pinned = this.pinned.get(text.caption);
      text.chips.forEach((chip, word) => {
        const background = blended(colours.paper, strength(scores[word], most, this.controls), colours, colours.cover);
        chip.style.backgroundColor = css(background);
        chip.style.color = inkOn(background);
        chip.lastElementChild.textContent = signed(scores[word]);
        chip.title = `${text.words[word].text} ${signed(scores[word])}`;
        if (chip.localName === "button") chip.setAttribute("aria-pressed", String(Boolean(pinned?.has(word))));
      });
    }

    /* -- what is said -- */

    told(panel) {
      const stages = panel.places.filter((place) => place.kind === "image");
      const said = stages.flatMap((stage) => this.toldOf(panel, stage, stages.length > 1 ? `${stage.name}: ` : ""));
      if (this.corner) said.push("One corner is set: set the other, or press Escape.");
      return said.join(" ");
    }

    toldOf(panel, stage, name) {
      const map = this.map(panel, stage), words = stage === panel.image ? this.chosen(panel) : [], said = [];
      const all = panel.table ? sum(panel.table.rows.flat().map(Math.abs)) : 0;
      if (words.length) {
        const rows = words.map((word) => panel.table.rows[panel.text.words[word].row]);
        const part = sum(rows.flat().map(Math.abs));
        said.push(`Region of ${quoted(words.map((word) => panel.text.words[word].text))}: ${signed(sum(map.scores))} in sum, ` +
          `${percent(part, all)} of the score of all words (signs left out), strongest at the ${whereabouts(map)}.`);
      }
      const { point, box } = this.place(panel, stage);
      if (box) {
        const weights = covered(map, box), whole = sum(map.scores.map(Math.abs));
        const [left, top, width, height] = this.pixels({ picture: stage.picture, at: box }).map(Math.round);
        said.push(`${name}Box of ${width} \u00d7 ${height} pixels at (${left}, ${top}): ${signed(weighed(map.scores, weights))}, ` +
          `${percent(weighed(map.scores.map(Math.abs), weights), whole)} of the map's score (signs left out).${this.gives(panel, stage)}`);
      } else if (point) {
        const patch = patchAt(map, point);
        said.push(patch ? `${name}Patch in row ${patch.row + 1}, column ${patch.column + 1}: ${signed(map.scores[patch.index])}.${this.gives(panel, stage)}`
          : `${name}The model did not see this part of the picture.`);
      } else if (!words.length) {
        said.push(`${name}The whole map: ${signed(sum(map.scores))} in sum, strongest at the ${whereabouts(map)}. Red speaks for the pair, blue against.`);
        if (panel.table) said.push("Point at a word to see its region, click to keep it; point at the picture, or mark a box on it, to see its words.");
      }
      return said;
    }

    /** What the place where people look gives to the words. */
    gives(panel, stage) {
      if (!panel.table || stage !== panel.image) return "";
      const scores = this.scores(panel, panel.text);
      const order = scores.map((_, word) => word).filter((word) => panel.text.words[word].row !== null);
      order.sort((one, other) => Math.abs(scores[other]) - Math.abs(scores[one]));
      return ` Words there: ${order.slice(0, OFTEN).map((word) => `${panel.text.words[word].text} ${signed(scores[word])}`).join(", ")}.`;
    }

    /* -- for programs -- */

    pixels({ picture, at }) {
      const [width, height] = this.data.pictures[picture];
      return [at[0] * width, at[1] * height, at[2] * width, at[3] * height];
    }

    state() {
      const captions = new Map(this.panels.filter((panel) => panel.text).map((panel) => [panel.text.caption, panel.text]));
      const words = [...captions].flatMap(([caption, text]) => [...(this.pinned.get(caption) || [])].sort((one, other) => one - other)
        .map((index) => ({ caption, index, text: text.words[index].text })));
      return {
        words, box: this.box && this.pixels(this.box), picture: this.box ? this.box.picture : null, controls: { ...this.controls },
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
})();
