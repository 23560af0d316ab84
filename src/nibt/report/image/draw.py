"""Pictures of results, and their rows: the question, a colored caption, a color bar, a ranking, the notes.

There are pictures of explanations, of the words of a caption or an answer, and of the heads of a decomposition.
"""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from nibt.report.colors import FAINT, PAPER, Appearance, appearance, on_paper, strength
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import (
    MARGIN,
    SIDE,
    SMALL,
    TILE,
    banner,
    below,
    centered,
    resized,
    stacked,
    text_rows,
    tile,
    write,
)
from nibt.report.image.parts import caption, header, notes, part_scale, photograph, ranking, scale
from nibt.report.request import (
    WordMaps,
    is_signed,
    largest_score,
    method_line,
    names_of,
    ranked_labels,
    ranked_noun,
    ranked_subjects,
    sentence,
    shared_word_scale,
    side_look,
    similarity_name,
    target_line,
    words_matter,
)
from nibt.results.answer import ANSWER_TARGETS, AnswerExplanation
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.base import require_result
from nibt.results.decomposition import Decomposition
from nibt.results.explanation import Explanation
from nibt.results.regions import Regions
from nibt.torch_modes import plain_torch

_WORDS_ACROSS = 5
_CELL, _LABELS, _STRONGEST, _HEADS_ACROSS = 22, 24, 6, 3


def draw_table(result: WordMaps, look: Appearance) -> Image.Image:
    """Draw the photograph once per word, under that word's map."""
    look = look.pale if result.is_noise() else look
    original, most = resized(photograph(result.input, result.source), TILE), largest_score(result)
    tiles = []
    for word, grid, matters in zip(result.words, result.table, words_matter(result), strict=True):
        mapped = look if matters else look.pale
        laid = overlay(GridMap(grid, result.region, result.size), original, mapped, most)
        tiles.append(tile(laid, word.text, f"{float(grid.sum()):+z.3f}" if _adds_up(result) else ""))
    across = min(_WORDS_ACROSS, len(tiles))
    width = max(across * (max(tile.width for tile in tiles) + MARGIN) + MARGIN, 640)
    rows = [centered(tiles[first : first + across], width) for first in range(0, len(tiles), across)]
    signed = is_signed(result)
    one_sided = look.positive_only or (not signed and bool((result.table >= 0).all()))
    bar = scale(most, width, look, one_sided, signed, name="all words")
    return stacked([*header(result, width, look), *rows, bar, text_rows(_word_notes(result), width)], width)


def _adds_up(result: WordMaps) -> bool:
    return isinstance(result, Regions) or result.adds_up


def _word_notes(result: WordMaps) -> list[str]:
    if isinstance(result, Regions):
        sums = (
            f"similarity ({similarity_name(result)}) {result.similarity:z.3f}    all of the table, special tokens "
            f"included: {float(result.scores.sum()):+.3f}, gap {result.gap:+.1g}"
        )
    else:
        name, of_one = ANSWER_TARGETS[result.target["name"]], result.target["name"] == "log_probability"
        values = (f"{word.text} {word.log_probability if of_one else word.value:z.2f}" for word in result.words)
        sums = f"{name}: {', '.join(values)}"
    return [
        sums,
        f"{method_line(result)}    {target_line(result)}"
        + ("    the number beside a word is the sum of its map" if _adds_up(result) else ""),
        *(f"note: {warning}" for warning in result.other_warnings),
    ]


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
        *(f"note: {warning}" for warning in result.other_warnings),
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


_PANEL, _LINE, _NEAR = 460, 760, 14


@plain_torch()
def draw(
    answer: Explanation | Regions | AnswerExplanation | Decomposition,
    positive_only: bool = False,
    style: str = "overlay",
    cmap: str = "red_blue",
) -> Image.Image:
    """Draw a result: the photograph, the map over it, and the caption below.

    A comparison is drawn with both inputs below each other, regions and answers with a small map per word, and a
    decomposition with a table of heads and the maps of the strongest heads.

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
    """Draw an image with its map and a caption; the image or caption that they are compared with has a map, too."""
    images = {name: side for name, side in explanation.sides.items() if isinstance(side, ImageAttribution)}
    strongest = max(images.values(), key=lambda side: float(side.grid.abs().max()))
    if len(images) > 1:
        panels = [_compared(explanation, *side, float(strongest.grid.abs().max()), look) for side in images.items()]
    else:
        original = resized(photograph(explanation.image.input, explanation.source))
        panels = [original, overlay(explanation, original, side_look(explanation, "image", look))]
    beside = sum(panel.width for panel in panels) <= 1.6 * sum(panel.height for panel in panels)
    panel_width = sum(panel.width for panel in panels) + MARGIN if beside else max(panel.width for panel in panels)
    width = max(panel_width, SIDE) + 2 * MARGIN
    signed = is_signed(explanation)
    image_look = look.pale if all(explanation.is_noise(name) for name in images) else look
    rows = [
        *header(explanation, width, look),
        *([centered(panels, width)] if beside else (centered([panel], width) for panel in panels)),
        part_scale(strongest, width, image_look, signed, "images" if len(images) > 1 else "image"),
    ]
    most_of_words = shared_word_scale(explanation)
    for name, side in explanation.sides.items():
        if isinstance(side, TextAttribution):
            label = "other words" if name == "against" else "words"
            words_look = side_look(explanation, name, look)
            rows += [
                caption(side, width, words_look, most=most_of_words),
                part_scale(side, width, words_look, signed, label, most_of_words),
            ]
    if explanation.ranking:
        rows.append(ranking(ranked_labels(explanation), width, ranked_noun(explanation), ranked_subjects(explanation)))
    return stacked([*rows, notes(explanation, width)], width)


def _compared(
    explanation: Explanation, name: str, side: ImageAttribution, most: float, look: Appearance
) -> Image.Image:
    """Draw one of two images that are compared for a caption, with its name and its similarity above it.

    The photograph in its own colors stands above the map, since images may differ in their colors.
    """
    mapped = explanation if name == "image" else side  # of which the explanation knows what decides
    original = resized(photograph(side.input, side.source), _PANEL)
    laid = overlay(mapped, original, side_look(explanation, name, look), most)
    if look.style != "outline":  # which has the colors of the photograph
        laid = below(original, laid, _NEAR)
    names = {key: side.source for key, side in explanation.sides.items() if isinstance(side, ImageAttribution)}
    title = dict(zip(names, names_of([*names.values()]), strict=True))[name]
    return tile(laid, title, f"{explanation.target[name]['value']:z.3f}")


def _comparison(explanation: Explanation, look: Appearance) -> Image.Image:
    """Draw both inputs, each with its color bar, and the notes."""
    looks = {name: side_look(explanation, name, look) for name in explanation.sides}
    images = {name: side for name, side in explanation.sides.items() if isinstance(side, ImageAttribution)}
    # two images or two captions share one scale
    most = max((float(side.grid.abs().max()) for side in images.values()), default=shared_word_scale(explanation))
    panels = []
    for name, side in images.items():
        original = resized(photograph(side.input, side.source), _PANEL)
        panels.append((original, overlay(side, original, looks[name], most)))
    column = max((original.width for original, _ in panels), default=0)
    width = (max(2 * column + MARGIN, SIDE) if panels else _LINE) + 2 * MARGIN
    rows = [
        caption(side, width, looks[name], most=most)
        for name, side in explanation.sides.items()
        if isinstance(side, TextAttribution)
    ]
    for pair in panels:  # a photograph and its map, centered in columns that all rows share
        row = Image.new("RGB", (width, pair[0].height), PAPER)
        left = (width - 2 * column - MARGIN) // 2
        for place, panel in enumerate(pair):
            row.paste(panel, (left + place * (column + MARGIN) + (column - panel.width) // 2, 0))
        rows.append(row)
    bars = [
        part_scale(side, width, looks[name], is_signed(explanation), name, most)
        for name, side in explanation.sides.items()
    ]
    rows = [below(row, bar, _NEAR) for row, bar in zip(rows, bars, strict=True)]
    return stacked([*header(explanation, width, look), *rows, notes(explanation, width)], width)
