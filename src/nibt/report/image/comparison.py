"""The image of a comparison: both inputs below each other, as photographs with their maps or as colored captions.

Each has its own color scale, since the maps explain the same number by different images or words.
"""

from PIL import Image

from nibt.report.appearance import DEFAULT, Appearance
from nibt.report.colors import PAPER
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SIDE, shown, stacked
from nibt.report.image.rows import caption, header, notes, part_scale, photograph
from nibt.report.request import is_signed
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import Explanation

_PANEL, _LINE, _NEAR = 460, 760, 14


def draw_comparison(answer: Explanation, look: Appearance = DEFAULT) -> Image.Image:
    """Draw both inputs, each with its color bar, and the notes."""
    parts = list(answer.sides.values())
    panels = [_panels(part, look) for part in parts if isinstance(part, ImageAttribution)]
    column = max((original.width for original, _ in panels), default=0)
    width = (max(2 * column + MARGIN, SIDE) if panels else _LINE) + 2 * MARGIN
    rows = [_columns(pair, column, width) for pair in panels] or [
        caption(part, width, look) for part in parts if isinstance(part, TextAttribution)
    ]
    bars = [part_scale(part, width, look, is_signed(answer), name) for name, part in answer.sides.items()]
    return stacked([*header(answer, width, look), *map(_grouped, rows, bars), notes(answer, width)], width)


def _panels(part: ImageAttribution, look: Appearance) -> tuple[Image.Image, Image.Image]:
    """Return the photograph, and the map over it."""
    original = shown(photograph(part.input, part.source), _PANEL)
    return original, overlay(part, original, look)


def _columns(panels: tuple[Image.Image, Image.Image], column: int, width: int) -> Image.Image:
    """Draw a photograph and its map, centered in columns that all rows share."""
    row = Image.new("RGB", (width, panels[0].height), PAPER)
    left = (width - 2 * column - MARGIN) // 2
    for place, panel in enumerate(panels):
        row.paste(panel, (left + place * (column + MARGIN) + (column - panel.width) // 2, 0))
    return row


def _grouped(row: Image.Image, bar: Image.Image) -> Image.Image:
    """Draw an input with its color bar close below it."""
    group = Image.new("RGB", (row.width, row.height + _NEAR + bar.height), PAPER)
    group.paste(row, (0, 0))
    group.paste(bar, (0, row.height + _NEAR))
    return group
