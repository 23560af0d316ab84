"""The image of a comparison: both inputs below each other, each with its own color scale."""

from PIL import Image

from nibt.report.appearance import DEFAULT, Appearance
from nibt.report.colors import PAPER
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SIDE, resized, stacked
from nibt.report.image.rows import caption, header, notes, part_scale, photograph
from nibt.report.request import is_signed
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import Explanation

_PANEL, _LINE, _NEAR = 460, 760, 14


def draw_comparison(explanation: Explanation, look: Appearance = DEFAULT) -> Image.Image:
    """Draw both inputs, each with its color bar, and the notes."""
    sides = list(explanation.sides.values())
    panels = [_panels(side, look) for side in sides if isinstance(side, ImageAttribution)]
    column = max((original.width for original, _ in panels), default=0)
    width = (max(2 * column + MARGIN, SIDE) if panels else _LINE) + 2 * MARGIN
    rows = [_columns(pair, column, width) for pair in panels] or [
        caption(side, width, look) for side in sides if isinstance(side, TextAttribution)
    ]
    bars = [part_scale(side, width, look, is_signed(explanation), name) for name, side in explanation.sides.items()]
    return stacked([*header(explanation, width, look), *map(_grouped, rows, bars), notes(explanation, width)], width)


def _panels(attribution: ImageAttribution, look: Appearance) -> tuple[Image.Image, Image.Image]:
    """Return the photograph, and the map over it."""
    original = resized(photograph(attribution.input, attribution.source), _PANEL)
    return original, overlay(attribution, original, look)


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
