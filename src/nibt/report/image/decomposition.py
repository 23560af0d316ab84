"""The image of a decomposition: the table of layers and heads, and the maps of the strongest heads beside it."""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from nibt.report.colors import FAINT, PAPER, Appearance, on_paper, strength
from nibt.report.image.fonts import write
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SMALL, TILE, centered, resized, stacked, text_rows, tile
from nibt.report.image.rows import caption, photograph, scale
from nibt.results.attribution import ImageAttribution
from nibt.results.decomposition import Decomposition

_CELL, _LABELS, _STRONGEST, _ACROSS = 22, 24, 6, 3


def draw_decomposition(result: Decomposition, look: Appearance) -> Image.Image:
    """Draw what each head adds over all tokens, and the maps of the heads that add or take most."""
    tiles = _tiles(result, look)
    across = max(tile.width for tile in tiles)
    rows = [
        centered(tiles[first : first + _ACROSS], _ACROSS * (across + MARGIN)) for first in range(0, len(tiles), _ACROSS)
    ]
    panels = [_table(result, look), stacked(rows, max(row.width for row in rows))]
    width = max(sum(panel.width for panel in panels) + 3 * MARGIN, 640)
    most = float(result.sums.abs().max())
    bar = scale(most, width, look, look.positive_only, name="heads")
    title = text_rows(
        [f"What heads of the {result.side} tower add to the similarity with \u201c{result.caption}\u201d"], width
    )
    return stacked([title, centered(panels, width), bar, text_rows(_notes(result), width)], width)


def _table(result: Decomposition, look: Appearance) -> Image.Image:
    """Draw the sums of the heads, a row per layer, with the numbers of layers and heads."""
    sums = result.sums.numpy()
    layers, heads = sums.shape
    share = strength(sums.clip(0) if look.positive_only else sums, float(np.abs(sums).max()))
    cells = Image.fromarray(on_paper(share, look.palette)).resize(
        (_CELL * heads, _CELL * layers), Image.Resampling.NEAREST
    )
    table = Image.new("RGB", (_LABELS + cells.width + 1, _LABELS + cells.height + 1), PAPER)
    table.paste(cells, (_LABELS, _LABELS))
    pen = ImageDraw.Draw(table)
    pen.rectangle((_LABELS, _LABELS, _LABELS + cells.width, _LABELS + cells.height), outline=FAINT)
    for layer in range(layers):
        write(pen, (_LABELS - 4, _LABELS + _CELL * layer + _CELL // 2), str(layer), FAINT, SMALL, anchor="rm")
    for head in range(heads):
        write(pen, (_LABELS + _CELL * head + _CELL // 2, _LABELS - 4), str(head), FAINT, SMALL, anchor="mb")
    return table


def _tiles(result: Decomposition, look: Appearance) -> list[Image.Image]:
    """Draw the map of each of the strongest heads, with its layer, its head and its sum."""
    tiles = []
    if look.style == "overlay":  # the outline of a map of one head is often that of noise
        look = replace(look, style="colors")
    for layer, head in result.strongest(_STRONGEST):
        attribution = result.head(layer, head)
        if isinstance(attribution, ImageAttribution):
            picture = overlay(attribution, resized(photograph(result.input, result.source), TILE), look)
        else:
            picture = caption(attribution, TILE, look, small=True)
        tiles.append(tile(picture, f"{layer}.{head}", f"{float(result.sums[layer, head]):+z.3f}"))
    return tiles


def _notes(result: Decomposition) -> list[str]:
    return [
        f"similarity {result.similarity:z.3f} = heads {float(result.sums.sum()):+z.3f}, perceptrons "
        f"{float(result.perceptrons.sum()):+z.3f}, first state {result.first:+z.3f}, constant {result.constant:+z.3f}",
        "table: a row per layer, a column per head    maps: the strongest heads (layer.head), each with its own scale; "
        "the number is the sum over all tokens, also special ones, which have no color",
        *(f"note: {warning}" for warning in result.warnings),
    ]
