"""Pictures of several small maps: of the words of a caption or an answer, and of the heads of a decomposition."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from nibt.report.colors import FAINT, PAPER, Appearance, on_paper, strength
from nibt.report.image.fonts import write
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import MARGIN, SMALL, TILE, centered, resized, stacked, text_rows, tile
from nibt.report.image.rows import caption, header, photograph, scale
from nibt.report.request import WordMaps, is_signed, method_line, similarity_name, target_line
from nibt.results.attribution import ImageAttribution
from nibt.results.decomposition import Decomposition
from nibt.results.explanation import other_warnings
from nibt.results.regions import Regions

_WORDS_ACROSS = 5
_CELL, _LABELS, _STRONGEST, _HEADS_ACROSS = 22, 24, 6, 3


def draw_table(result: WordMaps, look: Appearance) -> Image.Image:
    """Draw the photograph once per word, under that word's map."""
    tiles = list(_word_tiles(result, resized(photograph(result.input, result.source), TILE), look))
    across = min(_WORDS_ACROSS, len(tiles))
    width = max(across * (max(tile.width for tile in tiles) + MARGIN) + MARGIN, 640)
    rows = [centered(tiles[first : first + across], width) for first in range(0, len(tiles), across)]
    signed = is_signed(result)
    one_sided = look.positive_only or (not signed and bool((result.table >= 0).all()))
    bar = scale(float(result.table.abs().max()), width, look, one_sided, signed, name="all words")
    return stacked([*header(result, width, look), *rows, bar, text_rows(_word_notes(result), width)], width)


def _word_tiles(result: WordMaps, photograph: Image.Image, look: Appearance) -> Iterator[Image.Image]:
    most = float(result.table.abs().max())
    for word, grid in zip(result.words, result.table, strict=True):
        laid = overlay(GridMap(grid, result.region, result.size), photograph, look, most)
        yield tile(laid, word.text, f"{float(grid.sum()):+z.3f}" if _adds_up(result) else "")


def _adds_up(result: WordMaps) -> bool:
    return isinstance(result, Regions) or result.adds_up


def _word_notes(result: WordMaps) -> list[str]:
    if isinstance(result, Regions):
        sums = (
            f"similarity ({similarity_name(result)}) {result.similarity:z.3f}    all of the table, special tokens "
            f"included: {float(result.scores.sum()):+.3f}, gap {result.gap:+.1g}"
        )
    else:
        sums = "log-probabilities: " + ", ".join(f"{word.text} {word.log_probability:z.2f}" for word in result.words)
    return [
        sums,
        f"{method_line(result)}    {target_line(result)}"
        + ("    the number beside a word is the sum of its map" if _adds_up(result) else ""),
        *(f"note: {warning}" for warning in other_warnings(result.warnings)),
    ]


def draw_decomposition(result: Decomposition, look: Appearance) -> Image.Image:
    """Draw what each head adds over all tokens, and the maps of the heads that add or take most."""
    tiles = _head_tiles(result, look)
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
    return stacked([title, centered(panels, width), bar, text_rows(_head_notes(result), width)], width)


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


def _head_tiles(result: Decomposition, look: Appearance) -> list[Image.Image]:
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


def _head_notes(result: Decomposition) -> list[str]:
    return [
        f"similarity {result.similarity:z.3f} = heads {float(result.sums.sum()):+z.3f}, perceptrons "
        f"{float(result.perceptrons.sum()):+z.3f}, first state {result.first:+z.3f}, constant {result.constant:+z.3f}",
        "table: a row per layer, a column per head    maps: the strongest heads (layer.head), each with its own scale; "
        "the number is the sum over all tokens, also special ones, which have no color",
        *(f"note: {warning}" for warning in result.warnings),
    ]
