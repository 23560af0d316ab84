"""The view of the heads of a tower: what each adds, and the maps of the strongest."""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from nibt.heads.decomposition import Decomposition
from nibt.report.colors import FAINT, PAPER, Appearance, on_paper, strength
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, SMALL, TILE, banner, centered, resized, stacked, text_rows, tile, write
from nibt.report.image.parts import caption, photograph, scale
from nibt.report.request import note_lines, sentence
from nibt.report.view import View
from nibt.results.attribution import ImageAttribution

_CELL = 22
_LABELS = 24
_STRONGEST = 6
_HEADS_ACROSS = 3


class DecompositionView(View[Decomposition], name="decomposition"):
    """A table of heads, and maps."""

    shows = Decomposition
    place = 4

    def draw(self, result: Decomposition, look: Appearance) -> Image.Image:
        return draw_decomposition(result, look)


def draw_decomposition(result: Decomposition, look: Appearance) -> Image.Image:
    """Draw what each head adds over all tokens, and the maps of the heads that add or take most."""
    look = look.pale if result.is_noise() else look
    tiles = []
    mapped = replace(look, style="colors") if look.style == "overlay" else look  # outlines of heads are often noise
    for layer, head in result.strongest(_STRONGEST):
        attribution = result.head(layer, head)
        if isinstance(attribution, ImageAttribution):
            picture = overlay(attribution, resized(photograph(result.input, result.source), TILE), mapped)
        else:
            picture = caption(attribution, TILE, mapped, small=True)
        tiles.append(tile(picture, f"{layer}.{head}", f"{float(result.sums[layer, head]):+z.3f}"))

    across = max(tile.width for tile in tiles)
    rows = [
        centered(tiles[first : first + _HEADS_ACROSS], _HEADS_ACROSS * (across + MARGIN))
        for first in range(0, len(tiles), _HEADS_ACROSS)
    ]
    panels = [_head_table(result, look), stacked(rows, max(row.width for row in rows))]
    width = max(sum(panel.width for panel in panels) + 3 * MARGIN, 640)
    most = float(result.sums.abs().max())
    bar = scale(most, width, look, look.positive_only, name="heads")
    title = text_rows(
        [f"What heads of the {result.side} tower add to the similarity with \u201c{result.caption}\u201d"], width
    )
    notes = [
        f"similarity {result.similarity:z.3f} = heads {float(result.sums.sum()):+z.3f}, perceptrons "
        f"{float(result.perceptrons.sum()):+z.3f}, first state {result.first:+z.3f}, constant {result.constant:+z.3f}",
        "table: a row per layer, a column per head    maps: the strongest heads (layer.head), each with its own scale; "
        "the number is the sum over all tokens, also special ones, which have no color",
        *note_lines(result),
    ]
    before = [banner(sentence(result.mismatch), width)] if result.mismatch else []
    return stacked([title, *before, centered(panels, width), bar, text_rows(notes, width)], width)


def _head_table(result: Decomposition, look: Appearance) -> Image.Image:
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
