"""Two of a kind on one page, below each other: photographs with the maps over them, or coloured captions.

Each has its own colour scale, since both maps explain one number, but of different images or words.
"""

from PIL import Image

from nibt.report.colors import PAPER
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SIDE, shown, stacked
from nibt.report.image.rows import caption, header, notes, part_scale, photograph
from nibt.report.request import is_signed
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import Comparison

_PANEL, _LINE, _NEAR = 460, 760, 14


def draw_comparison(answer: Comparison, positive_only: bool = False) -> Image.Image:
    """Both parts, each with its colour bar, and what was measured.

    Raises:
        BadInput: The comparison was loaded from a file, and an image of it is no longer there.

    """
    parts = list(answer.sides.values())
    panels = [_panels(part, positive_only) for part in parts if isinstance(part, ImageAttribution)]
    column = max((original.width for original, _ in panels), default=0)
    width = (max(2 * column + MARGIN, SIDE) if panels else _LINE) + 2 * MARGIN
    rows = [_columns(pair, column, width) for pair in panels] or [
        caption(part, width, positive_only) for part in parts if isinstance(part, TextAttribution)
    ]
    bars = [part_scale(part, width, positive_only, is_signed(answer), name) for name, part in answer.sides.items()]
    return stacked([*header(answer, width, positive_only), *map(_grouped, rows, bars), notes(answer, width)], width)


def _panels(part: ImageAttribution, positive_only: bool) -> tuple[Image.Image, Image.Image]:
    """The photograph, and the map over it."""
    original = shown(photograph(part.input, part.source), _PANEL)
    return original, overlay(part, original, positive_only)


def _columns(panels: tuple[Image.Image, Image.Image], column: int, width: int) -> Image.Image:
    """A photograph and its map, each in the middle of its column, so that those of another row stand below them."""
    row = Image.new("RGB", (width, panels[0].height), PAPER)
    left = (width - 2 * column - MARGIN) // 2
    for place, panel in enumerate(panels):
        row.paste(panel, (left + place * (column + MARGIN) + (column - panel.width) // 2, 0))
    return row


def _grouped(row: Image.Image, bar: Image.Image) -> Image.Image:
    """A part with its bar close below it, so that it is seen which belongs to which."""
    group = Image.new("RGB", (row.width, row.height + _NEAR + bar.height), PAPER)
    group.paste(row, (0, 0))
    group.paste(bar, (0, row.height + _NEAR))
    return group
