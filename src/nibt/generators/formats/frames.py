"""The table of the words of an answer and the frames of a video, or several images, as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from nibt.errors import BadOption
from nibt.formats.base import LOOK, Drawing, Result, bare
from nibt.formats.image import PictureFormat
from nibt.report.colors import FAINT, INK, PAPER, Appearance, ink_on, on_paper, strength
from nibt.report.image.layout import (
    MARGIN,
    SMALL,
    centered,
    length,
    resized,
    shortened_inside,
    stacked,
    text_rows,
    write,
)
from nibt.report.image.parts import photograph, scale
from nibt.report.request import method_line, note_lines, sentence

if TYPE_CHECKING:  # files of other results do not need it
    from nibt.generators.results.answer import AnswerExplanation

_CELL = (72, 30)
_NARROW = 36  # the width of a cell of many frames, which has no number
_MANY = 16
_NAME = 180  # the width of the words
_TITLE = 20


class Frames(PictureFormat, name="frames"):
    """Which frame of a video, or which of several images, each word of an answer comes from: a table in colors."""

    endings = (".frames.png", ".frames.pdf", ".frames.svg")
    holds = ("answer",)
    draws = LOOK

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        result: Any = bare(results[0])
        if not result.images:
            raise BadOption("a table of frames is for an answer about several images, or a video (got one image)")
        return draw_frames(result, drawing.look)


def draw_frames(result: "AnswerExplanation", look: Appearance) -> Image.Image:
    """Draw a row per word and a column per frame, whose color is the sum of the word's scores on the frame."""
    sums = result.image_sums.numpy()
    sums = sums.clip(0) if look.positive_only else sums
    most = float(np.abs(sums).max())
    table = _table(result, sums, strength(sums, most), look.pale if result.is_noise() else look)
    width = max(table.width + 2 * MARGIN, 640)
    noun = "frame of the video" if result.frames else "image"
    meaning = "what the frame adds to the log-probability of the word, in nats"
    if not result.adds_up:
        meaning = "the scores of this method do not add up to the change of the word: compare only their order"
    facts = [f"{meaning}; {method_line(result)}", *note_lines(result)]
    title = text_rows([f"Which {noun} does each word come from?"], width, _TITLE, INK)
    one_sided = look.is_one_sided(result.method["signed"], float(sums.min()))
    bar = scale(most, width, look, one_sided, result.method["signed"], name="sums")
    before = [text_rows([sentence(result.mismatch)], width, ink=INK)] if result.mismatch else []
    return stacked([title, *before, centered([table], width), bar, text_rows(facts, width)], width)


def _table(result: "AnswerExplanation", sums: np.ndarray, shares: np.ndarray, look: Appearance) -> Image.Image:
    """Draw the frames, and below them a row of colored cells per word."""
    count = len(result.images)
    across = _CELL[0] if count <= _MANY else _NARROW
    small = [resized(photograph(image.input, image.source), across - 4) for image in result.images]
    head = max(picture.height for picture in small) + 2 * SMALL
    page = Image.new("RGB", (_NAME + across * count, head + _CELL[1] * len(result.words)), PAPER)
    pen = ImageDraw.Draw(page)
    for column, (name, picture) in enumerate(zip(result.image_names, small, strict=True)):
        left = _NAME + across * column
        number = name.partition(" ")[2]
        write(pen, (left + across // 2, 0), number, FAINT, SMALL, anchor="mt")
        page.paste(picture, (left + 2, head - picture.height - 4))

    write(pen, (_NAME - 10, 0), result.image_names[0].partition(" ")[0], FAINT, SMALL, anchor="rt")
    for row, word in enumerate(result.words):
        top = head + _CELL[1] * row
        middle = top + _CELL[1] // 2
        write(pen, (_NAME - 10, middle), shortened_inside(word.text, SMALL, _NAME - 20), INK, SMALL, anchor="rm")
        for column in range(count):
            left = _NAME + across * column
            red, green, blue = on_paper(float(shares[row, column]), look.palette).tolist()
            pen.rectangle((left, top, left + across - 2, top + _CELL[1] - 2), fill=(red, green, blue))
            text = f"{sums[row, column]:+z.2f}"
            if length(text, SMALL) < across - 4:
                place = left + across // 2, middle
                write(pen, place, text, ink_on((red, green, blue)), SMALL, anchor="mm")

    return page
