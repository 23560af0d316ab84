"""The rows that pages are made of: a coloured caption, a colour bar, what was measured."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nibt.errors import BadInput
from nibt.explanation import Answer
from nibt.pair import Picture
from nibt.report.colours import FAINT, INK, PAPER, blend, ink_on
from nibt.report.fonts import font_for
from nibt.report.layout import MARGIN, SMALL, told
from nibt.report.words import Run, Worded, runs

_LARGE = 24


def photograph(picture: Picture | None, source: str) -> Image.Image:
    """What is drawn on.

    Raises:
        BadInput: the answer was loaded from a file, and its picture is no longer there.

    """
    if picture is None:
        raise BadInput(f"the picture {source!r} is no longer there: nothing can be laid over it")
    return picture.image


def caption(worded: Worded, width: int, positive: bool, small: bool = False) -> Image.Image:
    """The words on their colours, wrapped to the width."""
    size = SMALL if small else _LARGE
    inner, gap = size // 3, size // 4
    high, usable = 3 * size // 2, width - (0 if small else 2 * MARGIN)
    lines: list[list[tuple[Run, int]]] = [[]]
    used = 0
    for run in runs(worded, positive):
        across = int(font_for(run.text, size).getlength(run.text)) + 2 * inner
        if used + across > usable and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append((run, across))
        used += across + gap
    row = Image.new("RGB", (width, (high + gap) * len(lines) - gap), PAPER)
    pen = ImageDraw.Draw(row)
    for number, line in enumerate(lines):
        left, top = (width - sum(across + gap for _, across in line)) // 2, (high + gap) * number
        for run, across in line:
            pen.rounded_rectangle((left, top, left + across, top + high), gap, fill=run.background)
            middle = left + inner, top + high // 2
            pen.text(middle, run.text, ink_on(run.background), font_for(run.text, size), anchor="lm")
            left += across + gap
    return row


def scale(most: float, width: int, positive: bool) -> Image.Image:
    """The colour bar, zero in its middle, with the largest absolute score at its ends."""
    bar = min(320, width - 2 * MARGIN)
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


def notes(answer: Answer, width: int) -> Image.Image:
    """What was explained, by what, and what the reader ought to know."""
    target = answer.score["target"]
    shares = [f"{name} {float(part.attribution.special_share):.0%}" for name, part in answer.parts.items()]
    return told([
        f"similarity (cosine) {answer.similarity:.3f}" + (
            "" if target == "cosine" else f"    {target} {answer.score['value']:.3f}"),
        f"{answer.method['name']} ({answer.method['variant']}) on {Path(answer.model['id']).name}    "
        f"on special tokens: {', '.join(shares)}",
        *(f"note: {warning}" for warning in answer.warnings),
    ], width)  # fmt: skip
