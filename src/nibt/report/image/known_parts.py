"""The known parts of evidence in an image: their cells in colors, and the table of what each carries."""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from nibt.report.colors import FAINT, INK, PAPER, RGB, ink_on
from nibt.report.image.layout import MARGIN, SMALL, below, centered, resized, shortened_inside, write
from nibt.report.image.parts import photograph
from nibt.results.explanation import Explanation
from nibt.results.part_scores import HEADINGS, PartScores
from nibt.results.pixels import placed

_COLORS: tuple[RGB, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""The colors of Okabe and Ito (2008), which readers with any color vision can tell apart."""
_CLEAR = 0.55  # how much of its color a cell has
_SIDE = 320  # of the photograph, in pixels
_ACROSS = 560  # of a table, in pixels
_HIGH = 26  # of its rows, in pixels
_COLUMNS = (0, 250, 420, 500, _ACROSS)  # the edges of the columns of a table


def colors(found: PartScores) -> list[RGB]:
    """Return the color of each part, which is the same in all images. Parts of one color differ in their numbers."""
    return [_COLORS[(part.number - 1) % len(_COLORS)] for part in found.parts]


def cells_of_parts(explanation: Explanation) -> Image.Image:
    """Draw the cells of each part in its color over a gray photograph, with its number on its largest score."""
    found = explanation.parts
    assert found is not None
    photo = resized(photograph(explanation.image.input, explanation.source), _SIDE)
    drawn = photo.convert("L").convert("RGB")
    left, top, right, bottom = placed(explanation.region, explanation.size, drawn.size)

    for part, color in zip(found.parts, colors(found), strict=True):
        is_part = (found.cells == part.number).numpy()
        opacity = Image.fromarray((is_part * round(255 * _CLEAR)).astype(np.uint8))
        mask = Image.new("L", drawn.size)
        mask.paste(opacity.resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))
        drawn.paste(color, (0, 0), mask)

    pen = ImageDraw.Draw(drawn)
    scores = explanation.grid.cpu().numpy()
    for part, color in zip(found.parts, colors(found), strict=True):
        of_part = np.where(found.cells.numpy() == part.number, scores, -np.inf)
        row, column = np.unravel_index(of_part.argmax(), scores.shape)
        across = left + (right - left) * (int(column) + 0.5) / scores.shape[1]
        down = top + (bottom - top) * (int(row) + 0.5) / scores.shape[0]
        pen.ellipse((across - 11, down - 11, across + 11, down + 11), fill=color)
        write(pen, (across, down), str(part.number), ink_on(color), SMALL, anchor="mm")

    return drawn


def known_parts(explanation: Explanation, width: int) -> Image.Image:
    """Draw the cells of the parts above the table of their scores."""
    found = explanation.parts
    assert found is not None
    rows = [*found.rows]
    column = min(width - 2 * MARGIN, _ACROSS)
    left = (width - column) // 2
    table = Image.new("RGB", (width, _HIGH * (len(rows) + 1)), PAPER)
    pen = ImageDraw.Draw(table)
    for number, row in enumerate([HEADINGS, *rows]):
        for (edge, following), text in zip(pairwise(_COLUMNS), row, strict=True):
            place = left + edge * column // _ACROSS, _HIGH * number + 4
            room = (following - edge) * column // _ACROSS - 8
            write(pen, place, shortened_inside(text, SMALL, room), INK if number else FAINT, SMALL)

    for number, color in enumerate(colors(found), 1):
        pen.rectangle((left - 20, _HIGH * number + 6, left - 8, _HIGH * number + 18), fill=color)

    cells = cells_of_parts(explanation)
    return below(centered([cells], width), table, MARGIN)
