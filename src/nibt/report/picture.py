"""The whole answer on one picture: the photograph, the map over it, the coloured caption and what was measured."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nibt.errors import BadInput, BadOption
from nibt.explanation import Explanation
from nibt.files import written_whole
from nibt.report.colours import FAINT, INK, PAPER, blend, ink_on
from nibt.report.fonts import font_for
from nibt.report.heatmap import overlay
from nibt.report.layout import MARGIN, SIDE, SMALL, centred, shown, stacked, told
from nibt.report.words import Run, runs

_LARGE = 24


def draw(explanation: Explanation, positive: bool = False) -> Image.Image:
    """The photograph, the map over it, and the caption below.

    Raises:
        BadInput: the explanation was loaded from a file, and its picture is no longer there.

    """
    if explanation.picture is None:
        raise BadInput(f"the picture {explanation.source!r} is no longer there: nothing can be laid over it")
    photograph = shown(explanation.picture.image)
    panels = [photograph, overlay(explanation, photograph, positive)]
    beside = photograph.width <= 1.6 * photograph.height
    panel_width = 2 * photograph.width + MARGIN if beside else photograph.width
    width = max(panel_width, SIDE) + 2 * MARGIN
    rows = [*_panel_rows(panels, width, beside), _caption(explanation, width, positive),
            _scale(explanation, width, positive), *_notes(explanation, width)]  # fmt: skip
    return stacked(rows, width)


def check_format(path: Path) -> None:
    """Refuse a name whose ending is that of no picture format.

    Raises:
        BadOption: Pillow cannot write that format.

    """
    Image.init()
    formats = {end for end, name in Image.registered_extensions().items() if name in Image.SAVE}
    if path.suffix.lower() not in formats:
        raise BadOption(f"{path.name!r} must end in the name of a picture format, such as .png (got {path.suffix!r})")


def write(image: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all.

    Raises:
        CannotWrite: the folder is missing or closed, or the disk is full.

    """
    kind = Image.registered_extensions()[path.suffix.lower()]
    buffer = BytesIO()
    image.save(buffer, kind)
    with written_whole(path) as draft:
        draft.write_bytes(buffer.getvalue())


def _panel_rows(panels: list[Image.Image], width: int, beside: bool) -> Iterator[Image.Image]:
    if not beside:
        yield from (centred([panel], width) for panel in panels)
    else:
        yield centred(panels, width)


def _caption(explanation: Explanation, width: int, positive: bool) -> Image.Image:
    """The words on their colours, wrapped to the width."""
    lines: list[list[tuple[Run, int]]] = [[]]
    used = 0
    for run in runs(explanation, positive):
        across = int(font_for(run.text, _LARGE).getlength(run.text)) + 16
        if used + across > width - 2 * MARGIN and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append((run, across))
        used += across + 6
    row = Image.new("RGB", (width, 42 * len(lines) - 6), PAPER)
    pen = ImageDraw.Draw(row)
    for number, line in enumerate(lines):
        left = (width - sum(across + 6 for _, across in line)) // 2
        for run, across in line:
            top = 42 * number
            pen.rounded_rectangle((left, top, left + across, top + 36), 6, fill=run.background)
            pen.text((left + 8, top + 18), run.text, ink_on(run.background), font_for(run.text, _LARGE), anchor="lm")
            left += across + 6
    return row


def _scale(explanation: Explanation, width: int, positive: bool) -> Image.Image:
    """The colour bar, zero in its middle, with the largest absolute score of the map at its ends."""
    most, bar = float(explanation.image.scores.abs().max()), min(320, width - 2 * MARGIN)
    row = Image.new("RGB", (width, 48), PAPER)
    shares = np.linspace(0 if positive else -1, 1, bar, dtype=np.float32)
    colours = blend(np.full((18, bar, 3), 255, np.float32), np.broadcast_to(shares, (18, bar)))
    left = (width - bar) // 2
    row.paste(Image.fromarray(colours), (left, 0))
    pen = ImageDraw.Draw(row)
    pen.rectangle((left, 0, left + bar - 1, 17), outline=FAINT)
    ends = [(left, f"{0 if positive else -most:.2g}" + ("" if positive else "  against"), "lt"),
            (left + bar, f"for  {most:.2g}", "rt")]  # fmt: skip
    if not positive:
        ends.append((left + bar // 2, "0", "mt"))
    for across, text, anchor in ends:
        pen.text((across, 26), text, INK, font_for(text, SMALL), anchor=anchor)
    return row


def _notes(explanation: Explanation, width: int) -> Iterator[Image.Image]:
    """What was explained, by what, and what the reader ought to know."""
    shares = explanation.image.special_share, explanation.text.special_share
    target = explanation.score["target"]
    lines = [
        f"similarity (cosine) {explanation.similarity:.3f}" + (
            "" if target == "cosine" else f"    {target} {explanation.score['value']:.3f}"),
        f"{explanation.method['name']} ({explanation.method['variant']}) on {Path(explanation.model['id']).name}    "
        f"on special tokens: image {float(shares[0]):.0%}, text {float(shares[1]):.0%}",
        *(f"note: {warning}" for warning in explanation.warnings),
    ]  # fmt: skip
    yield told(lines, width)
