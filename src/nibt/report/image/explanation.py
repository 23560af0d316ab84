"""Pictures of results. That of an explanation has the photograph, the map over it, the colored caption and notes."""

from PIL import Image

from nibt.report.colors import PAPER, Appearance, appearance
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SIDE, below, centered, resized, stacked
from nibt.report.image.rows import caption, header, notes, part_scale, photograph, ranking
from nibt.report.image.tiles import draw_decomposition, draw_table
from nibt.report.request import is_signed
from nibt.results.answer import AnswerExplanation
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.base import require_result
from nibt.results.decomposition import Decomposition
from nibt.results.explanation import Explanation, is_noise
from nibt.results.regions import Regions
from nibt.torch_modes import plain_torch

_PANEL, _LINE, _NEAR = 460, 760, 14


@plain_torch()
def draw(
    answer: Explanation | Regions | AnswerExplanation | Decomposition,
    positive_only: bool = False,
    style: str = "overlay",
    cmap: str = "red_blue",
) -> Image.Image:
    """Draw a result: the photograph, the map over it, and the caption below.

    A comparison has both inputs below each other, a word-region table and a generator's answer a small map per word,
    and a decomposition its table of heads with the maps of the strongest.

    Args:
        answer: The result.
        positive_only: Whether negative scores are hidden.
        style: How maps are drawn: ``overlay``, colors over the grayed photograph with an outline where the score is at
            least half of the largest positive one; ``colors``, without the outline; ``outline``, over the photograph in
            its own colors; ``heatmap``, colors alone.
        cmap: ``red_blue``, ``orange_purple``, ``pink_green``, or a color map of matplotlib (its two ends).

    Raises:
        BadOption: There is no such style or color map.
        BadInput: An image of a loaded result is missing, or there is no such picture of the result.
    """
    require_result(answer, "draw", Explanation, Regions, AnswerExplanation, Decomposition)
    look = appearance(positive_only, style, cmap)
    if isinstance(answer, Decomposition):
        return draw_decomposition(answer, look)
    if isinstance(answer, Regions | AnswerExplanation):
        return draw_table(answer, look)
    return _comparison(answer, look) if answer.is_comparison else _page(answer, look)


def _page(explanation: Explanation, look: Appearance) -> Image.Image:
    look = look.pale if is_noise(explanation.warnings) else look
    original = resized(photograph(explanation.image.input, explanation.source))
    panels = [original, overlay(explanation, original, look)]
    beside = original.width <= 1.6 * original.height
    panel_width = 2 * original.width + MARGIN if beside else original.width
    width = max(panel_width, SIDE) + 2 * MARGIN
    image, text = explanation.sides["image"], explanation.sides["text"]
    signed = is_signed(explanation)
    rows = [
        *header(explanation, width, look),
        *([centered(panels, width)] if beside else (centered([panel], width) for panel in panels)),
        part_scale(image, width, look, signed, "image"),
        caption(explanation, width, look),
        part_scale(text, width, look, signed, "words"),
    ]
    if explanation.ranking:
        rows.append(ranking(explanation.ranking, width))
    return stacked([*rows, notes(explanation, width)], width)


def _comparison(explanation: Explanation, look: Appearance) -> Image.Image:
    """Draw both inputs, each with its color bar, and the notes."""
    sides = list(explanation.sides.values())
    panels = [_panels(side, look) for side in sides if isinstance(side, ImageAttribution)]
    column = max((original.width for original, _ in panels), default=0)
    width = (max(2 * column + MARGIN, SIDE) if panels else _LINE) + 2 * MARGIN
    rows = [_columns(pair, column, width) for pair in panels] or [
        caption(side, width, look) for side in sides if isinstance(side, TextAttribution)
    ]
    bars = [part_scale(side, width, look, is_signed(explanation), name) for name, side in explanation.sides.items()]
    rows = [below(row, bar, _NEAR) for row, bar in zip(rows, bars, strict=True)]
    return stacked([*header(explanation, width, look), *rows, notes(explanation, width)], width)


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
