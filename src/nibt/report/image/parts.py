"""The parts of pictures: captions, scales, titles and notes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from nibt.data.images import ImageInput, read_image
from nibt.errors import BadInput, NibtError
from nibt.report.colors import FAINT, INK, PAPER, Appearance, ink_on, on_paper
from nibt.report.image.layout import MARGIN, SMALL, banner, below, length, shortened, text_rows, write
from nibt.report.ranked import side_title
from nibt.report.request import (
    ColoredWord,
    Worded,
    legend,
    method_line,
    note_lines,
    question,
    runs,
    sentence,
    target_line,
)
from nibt.report.view import probability_text, similarity_name, similarity_noun
from nibt.results.attribution import ImageAttribution, SideAttribution
from nibt.results.base import ResultWithMaps
from nibt.results.explanation import Explanation

_LARGE = 24
_TITLE = 20
_NAME = 70  # space for the name on each side of a bar
_WORDED = 240  # the width from which a bar has words at its ends


def photograph(image: ImageInput | None, source: str) -> Image.Image:
    """Return the image on which maps are drawn."""
    return present(image, source).pil_image


def boxed(picture: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None) -> Image.Image:
    """Return a picture of an image of a size, with a frame around a box of it."""
    if box is None:
        return picture

    framed = picture.convert("RGB")
    across = framed.width / size[0]
    down = framed.height / size[1]
    left, top, right, bottom = (side * scale for side, scale in zip(box, (across, down) * 2, strict=True))
    line = max(1, round(max(framed.size) / 250))

    # the box of a detector may extend past the image
    left, right = (min(max(0.0, side), framed.width - 1.0) for side in (left, right))
    top, bottom = (min(max(0.0, side), framed.height - 1.0) for side in (top, bottom))

    # two frames, one of which is seen on any color
    pen = ImageDraw.Draw(framed)
    pen.rectangle((left, top, right, bottom), outline=PAPER, width=3 * line)
    inside = min(line, (right - left) / 2, (bottom - top) / 2)
    pen.rectangle((left + inside, top + inside, right - inside, bottom - inside), outline=INK, width=line)
    return framed


def present(image: ImageInput | None, source: str) -> ImageInput:
    """Return the image of a result, or raise the error that says why a result that was loaded has none."""
    if image is not None:
        return image

    # it was not found when the result was loaded; it is read once more, to say whether it is missing or was changed
    try:
        read_image(source)
    except NibtError as error:
        if " + " in source:  # of several images, whose names are joined
            raise BadInput(
                f"of the images {source!r:.300}, some are no longer there or were changed since they were explained: "
                "restore them, or explain them again"
            ) from error
        raise BadInput(f"the image {source!r} is no longer there: restore it, or explain it again") from error

    raise BadInput(f"the image {source!r} was changed since it was explained: explain it again, or restore it")


def caption(
    worded: Worded, width: int, look: Appearance, small: bool = False, most: float | None = None
) -> Image.Image:
    """Draw the words on their colors, wrapped to the width.

    ``most`` is the largest absolute score of a scale that several captions share.
    """
    size = SMALL if small else _LARGE
    inner = size // 3
    gap = size // 4
    high = 3 * size // 2
    usable = width - (0 if small else 2 * MARGIN)

    lines: list[list[tuple[ColoredWord, int]]] = [[]]
    used = 0
    for word in runs(worded, look, most):
        run = replace(word, text=shortened(word.text, size, usable - 2 * inner))
        across = int(length(run.text, size)) + 2 * inner
        if used + across > usable and lines[-1]:
            lines.append([])
            used = 0

        lines[-1].append((run, across))
        used += across + gap

    row = Image.new("RGB", (width, (high + gap) * len(lines) - gap), PAPER)
    pen = ImageDraw.Draw(row)
    for number, line in enumerate(lines):
        left = (width - sum(across + gap for _, across in line)) // 2
        top = (high + gap) * number
        for run, across in line:
            pen.rounded_rectangle((left, top, left + across, top + high), gap, fill=run.background)
            middle = left + inner, top + high // 2
            write(pen, middle, run.text, ink_on(run.background), size, anchor="lm")
            left += across + gap

    return row


def scale(
    most: float, width: int, look: Appearance, one_sided: bool, signed: bool = True, name: str = ""
) -> Image.Image:
    """Draw a color bar with the largest absolute score at its end and its name on the left."""
    bar = min(320, width - 2 * MARGIN - (2 * _NAME if name else 0))
    row = Image.new("RGB", (width, 48), PAPER)
    shares = np.linspace(0 if one_sided else -1, 1, bar, dtype=np.float32)
    pixels = on_paper(np.broadcast_to(shares, (18, bar)), look.palette)
    left = (width - bar) // 2
    row.paste(Image.fromarray(pixels), (left, 0))
    pen = ImageDraw.Draw(row)
    pen.rectangle((left, 0, left + bar - 1, 17), outline=FAINT)
    write(pen, (left - 10, 9), name, INK, SMALL, anchor="rm")
    for across, text, anchor in _ends(most, left, bar, one_sided, signed):
        write(pen, (across, 26), text, INK, SMALL, anchor=anchor)
    return row


def _ends(most: float, left: int, bar: int, one_sided: bool, signed: bool) -> Iterator[tuple[int, str, str]]:
    """Yield the numbers below a bar, with words if the bar is wide enough."""
    wide = bar >= _WORDED
    if most == 0:
        yield left + bar // 2, "all scores are 0", "mt"
    elif one_sided:
        yield left, "0", "lt"
        yield left + bar, f"{'for' if signed else 'strength'}  {most:.2g}" if wide else f"{most:.2g}", "rt"
    else:
        worded = wide and signed
        yield left, f"{-most:.2g}  against" if worded else f"{-most:.2g}", "lt"
        yield left + bar // 2, "0", "mt"
        yield left + bar, f"for  {most:.2g}" if worded else f"{most:.2g}", "rt"


def part_scale(
    attribution: SideAttribution, width: int, look: Appearance, signed: bool, name: str = "", most: float | None = None
) -> Image.Image:
    """Draw the color bar of a map or of a caption, which is one-sided if no negative scores are drawn.

    ``most`` is the largest absolute score of a scale that several maps share.
    """
    if isinstance(attribution, ImageAttribution):
        scores = attribution.grid.flatten().tolist()
    else:
        scores = [word.score for word in attribution.words]

    one_sided = look.is_one_sided(signed, min(scores, default=0.0))
    most = max(map(abs, scores), default=0.0) if most is None else most
    return scale(most, width, look, one_sided, signed, name)


def header(result: ResultWithMaps, width: int, look: Appearance) -> Iterator[Image.Image]:
    """Yield what is read before a map: the question, the legend, and a banner if the pair does not match."""
    yield below(
        text_rows([question(result)], width, _TITLE, INK),
        text_rows([legend(result, _header_look(result, look))], width),
    )
    no_match = result.mismatch
    if no_match:
        yield banner(sentence(no_match), width)


def _header_look(result: ResultWithMaps, look: Appearance) -> Appearance:
    """Return the look that the legend describes: without an outline if all maps of images are noise."""
    if not isinstance(result, Explanation):
        return look
    names = [name for name, side in result.sides.items() if isinstance(side, ImageAttribution)]
    is_pale = bool(names) and all(result.is_noise(name) for name in names)
    return replace(look, style="colors") if is_pale and look.outlined else look


def notes(explanation: Explanation, width: int) -> Image.Image:
    """Draw the method, the target, the model, the similarity, the verdicts of checks and the warnings."""
    sides = {side_title(explanation, name).removesuffix(" side"): side for name, side in explanation.sides.items()}
    gaps = [f"{name} {side.path.gap_share}" for name, side in sides.items() if side.path is not None]
    special = [f"{name} {float(side.special_token_share):.0%}" for name, side in sides.items()]
    not_shown = (
        f"completeness gap: {', '.join(gaps)} of the change" if gaps else f"special tokens: {', '.join(special)}"
    )
    name = similarity_name(explanation)
    noun = similarity_noun(explanation)
    return text_rows(
        [
            f"{method_line(explanation)}    {target_line(explanation)}",
            f"{noun if noun == name else f'{noun} ({name})'} {explanation.similarity:z.3f}"
            f"{probability_text(explanation)}    {not_shown}",
            *(f"{check.verdict}: {sentence(check.about)}" for check in explanation.checks),
            *note_lines(explanation),
        ],
        width,
    )
