/* What people do on an image, by pointer and by keys. */

/** A click sets a corner of a box, a second click the other; dragging does both. */
function pointing(view, stage) {
  let down = null;
  const { frame, image } = stage;
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
    const here = at(event), start = view.corner?.image === image ? view.corner.at : null;
    view.hover = { image, point: here };
    if (down && event.pointerType !== "touch" && far(here)) view.draft = { image, at: boxed(down, here) };
    else if (start && start.length === 2) view.draft = { image, at: boxed(start, here) };
    view.draw();
  });
  frame.addEventListener("pointerup", (event) => {
    if (!down) return;
    const here = at(event), start = view.corner?.image === image ? view.corner.at : null, dragged = far(here);
    view.draft = null;
    view.speak(view.panels.findIndex((panel) => panel.places.includes(stage)));
    if (dragged && event.pointerType !== "touch") view.mark(image, boxed(down, here));
    else if (start && start.length === 2) view.mark(image, boxed(start, here));
    else if (!dragged) { view.corner = { image, at: here }; view.draw(); }
    down = null;
  });
  frame.addEventListener("pointercancel", () => { down = view.draft = null; view.look(null); });
  frame.addEventListener("pointerleave", () => { view.draft = null; view.look(null); });
}

/** Arrow keys move over the patches, Enter sets corners, Escape clears. */
function pressed(view, event, stage, panel) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const cells = panel.table || stage, [rows, columns] = cells.grid;
  view.speak(view.panels.indexOf(panel));
  if (event.key in steps) {
    const from = view.cursor?.stage === stage ? view.cursor : { row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
    const [down, across] = view.cursor?.stage === stage ? steps[event.key] : [0, 0];
    const row = limited(from.row + down, 0, rows - 1), column = limited(from.column + across, 0, columns - 1);
    view.cursor = { stage, row, column, at: patchBox(cells, row, column) };
    if (view.corner?.at.length === 4) view.draft = { image: stage.image, at: spanned(view.corner.at, view.cursor.at) };
    view.draw();
  } else if ((event.key === "Enter" || event.key === " ") && view.cursor?.stage === stage) {
    const here = view.cursor.at;
    view.draft = null;
    if (view.corner?.at.length === 4 && view.corner.image === stage.image) view.mark(stage.image, spanned(view.corner.at, here));
    else { view.corner = { image: stage.image, at: here }; view.draw(); }
  } else if (event.key === "Escape") {
    view.cursor = view.draft = null;
    view.mark(stage.image, null);
  } else return;
  event.preventDefault();
}
