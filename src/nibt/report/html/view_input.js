/* Pointer and keyboard input on an image. */

const DRAG_DISTANCE = 5; // pixels of the screen; a shorter movement is a click

/** Mark boxes with the pointer: one click sets a corner and a second click the opposite one, or one drag sets both. */
function addPointerListeners(view, stage) {
  let pressedAt = null;
  const { frame, image } = stage;
  const toPosition = (event) => {
    const edge = frame.getBoundingClientRect();
    return [clamp((event.clientX - edge.left) / edge.width, 0, 1), clamp((event.clientY - edge.top) / edge.height, 0, 1)];
  };
  const isDrag = ([x, y]) =>
    Math.hypot((x - pressedAt[0]) * frame.clientWidth, (y - pressedAt[1]) * frame.clientHeight) > DRAG_DISTANCE;
  const boxBetween = (first, second) => enclosingBox([...first, 0, 0], [...second, 0, 0]);
  const clickedCorner = () => (view.corner?.image === image && view.corner.at.length === 2 ? view.corner.at : null);
  frame.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return;
    pressedAt = toPosition(event);
    if (event.pointerType !== "touch") frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    const position = toPosition(event), corner = clickedCorner();
    view.hover = { image, point: position };
    if (pressedAt && event.pointerType !== "touch" && isDrag(position)) view.draft = { image, at: boxBetween(pressedAt, position) };
    else if (corner) view.draft = { image, at: boxBetween(corner, position) };
    view.draw();
  });
  frame.addEventListener("pointerup", (event) => {
    if (!pressedAt) return;
    const position = toPosition(event), corner = clickedCorner(), dragged = isDrag(position);
    view.draft = null;
    view.announce(view.panels.findIndex((panel) => panel.sides.includes(stage)));
    if (dragged && event.pointerType !== "touch") view.setBox(image, boxBetween(pressedAt, position));
    else if (corner) view.setBox(image, boxBetween(corner, position));
    else if (!dragged) { view.corner = { image, at: position }; view.draw(); }
    pressedAt = null;
  });
  frame.addEventListener("pointercancel", () => { pressedAt = view.draft = null; view.setHover(null); });
  frame.addEventListener("pointerleave", () => { view.draft = null; view.setHover(null); });
}

/** Arrow keys move between patches, Enter and Space set the corners of a box, Escape clears it. */
function onKeyDown(view, event, stage, panel) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const map = panel.table || stage, [rows, columns] = map.grid;
  view.announce(view.panels.indexOf(panel));
  if (event.key in steps) {
    const started = view.cursor?.stage === stage; // the first arrow key shows the cursor in the middle
    const from = started ? view.cursor : { row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
    const [down, right] = started ? steps[event.key] : [0, 0];
    const row = clamp(from.row + down, 0, rows - 1), column = clamp(from.column + right, 0, columns - 1);
    view.cursor = { stage, row, column, at: patchBox(map, row, column) };
    if (view.corner?.at.length === 4) view.draft = { image: stage.image, at: enclosingBox(view.corner.at, view.cursor.at) };
    view.draw();
  } else if ((event.key === "Enter" || event.key === " ") && view.cursor?.stage === stage) {
    const patch = view.cursor.at;
    view.draft = null;
    if (view.corner?.at.length === 4 && view.corner.image === stage.image) view.setBox(stage.image, enclosingBox(view.corner.at, patch));
    else { view.corner = { image: stage.image, at: patch }; view.draw(); }
  } else if (event.key === "Escape") {
    view.cursor = view.draft = null;
    view.setBox(stage.image, null);
  } else return;
  event.preventDefault();
}
