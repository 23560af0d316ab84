"""Pictures of results, and their rows: the question, a colored caption, a color bar, a ranking, the notes.

There are pictures of explanations, of the words of a caption or an answer, and of the heads of a decomposition.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from nibt.data.images import ImageInput, read_image
from nibt.errors import BadInput, NibtError
from nibt.report.colors import FAINT, INK, PAPER, Appearance, appearance, ink_on, on_paper, strength
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import (
    MARGIN,
    SIDE,
    SMALL,
    TILE,
    banner,
    below,
    centered,
    length,
    resized,
    shortened,
    stacked,
    text_rows,
    tile,
    write,
)
from nibt.report.request import (
    ColoredWord,
    Shown,
    Worded,
    WordMaps,
    is_signed,
    legend,
    method_line,
    question,
    runs,
    sentence,
    similarity_name,
    target_line,
)
from nibt.results.answer import AnswerExplanation
from nibt.results.attribution import ImageAttribution, SideAttribution, TextAttribution
from nibt.results.base import require_result
from nibt.results.decomposition import Decomposition
from nibt.results.explanation import Explanation, Ranked, is_noise, mismatch, other_warnings
from nibt.results.regions import Regions
from nibt.torch_modes import plain_torch

_LARGE, _TITLE = 24, 20
_NAME, _WORDED = 70, 240  # space for the name on each side of a bar; the width from which a bar has words at its ends
_MOST_LABELS = 10


def photograph(image: ImageInput | None, source: str) -> Image.Image:
    """Return the image on which maps are drawn."""
    if image is not None:
        return image.pil_image
    try:
        read_image(source)
    except NibtError as error:
        raise BadInput(f"the image {source!r} is no longer there: nothing can be laid over it") from error
    raise BadInput(f"the image {source!r} was changed since it was explained: explain it again, or restore it")


def caption(worded: Worded, width: int, look: Appearance, small: bool = False) -> Image.Image:
    """Draw the words on their colors, wrapped to the width."""
    size = SMALL if small else _LARGE
    inner, gap = size // 3, size // 4
    high, usable = 3 * size // 2, width - (0 if small else 2 * MARGIN)
    lines: list[list[tuple[ColoredWord, int]]] = [[]]
    used = 0
    for word in runs(worded, look):
        run = replace(word, text=shortened(word.text, size, usable - 2 * inner))
        across = int(length(run.text, size)) + 2 * inner
        if used + across > usable and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append((run, across))
        used += across + gap
    row = Image.new("RGB", (width, (high + gap) * len(lines) - gap), PAPER)
    pen = ImageDraw.Draw(row)
    for number, line in enumerate(lines):
        left, top = (width - sum(across + gap for _, across in line)) // 2, (high + gap) * number
        for run, across in line:
            pen.rounded_rectangle((left, top, left + across, top + high), gap, fill=run.background)
            middle = left + inner, top + high // 2
            write(pen, middle, run.text, ink_on(run.background), size, anchor="lm")
            left += across + gap
    return row


def scale(
    most: float, width: int, look: Appearance, one_sided: bool, signed: bool = True, name: str = ""
) -> Image.Image:
    """Draw a color bar with the largest absolute score at its end and its name on the left."""
    bar = min(320, width - 2 * MARGIN - (2 * _NAME if name else 0))
    row = Image.new("RGB", (width, 48), PAPER)
    shares = np.linspace(0 if one_sided else -1, 1, bar, dtype=np.float32)
    pixels = on_paper(np.broadcast_to(shares, (18, bar)), look.palette)
    left = (width - bar) // 2
    row.paste(Image.fromarray(pixels), (left, 0))
    pen = ImageDraw.Draw(row)
    pen.rectangle((left, 0, left + bar - 1, 17), outline=FAINT)
    write(pen, (left - 10, 9), name, INK, SMALL, anchor="rm")
    for across, text, anchor in _ends(most, left, bar, one_sided, signed):
        write(pen, (across, 26), text, INK, SMALL, anchor=anchor)
    return row


def _ends(most: float, left: int, bar: int, one_sided: bool, signed: bool) -> Iterator[tuple[int, str, str]]:
    """Yield the numbers below a bar, with words if the bar is wide enough."""
    wide = bar >= _WORDED
    if most == 0:
        yield left + bar // 2, "all scores are 0", "mt"
    elif one_sided:
        yield left, "0", "lt"
        yield left + bar, f"{'for' if signed else 'strength'}  {most:.2g}" if wide else f"{most:.2g}", "rt"
    else:
        worded = wide and signed
        yield left, f"{-most:.2g}  against" if worded else f"{-most:.2g}", "lt"
        yield left + bar // 2, "0", "mt"
        yield left + bar, f"for  {most:.2g}" if worded else f"{most:.2g}", "rt"


def part_scale(attribution: SideAttribution, width: int, look: Appearance, signed: bool, name: str = "") -> Image.Image:
    """Draw the color bar of a map or of a caption, which is one-sided if no negative scores are drawn."""
    if isinstance(attribution, ImageAttribution):
        scores = attribution.grid.flatten().tolist()
    else:
        scores = [word.score for word in attribution.words]
    one_sided = look.positive_only or (not signed and min(scores, default=0.0) >= 0)
    return scale(max(map(abs, scores), default=0.0), width, look, one_sided, signed, name)


def header(result: Shown, width: int, look: Appearance) -> Iterator[Image.Image]:
    """Yield what is read before a map: the question, the legend, and a banner if the pair does not match."""
    yield below(text_rows([question(result)], width, _TITLE, INK), text_rows([legend(result, look)], width))
    no_match = mismatch(result.warnings)
    if no_match:
        yield banner(sentence(no_match), width)


def ranking(labels: Sequence[Ranked], width: int) -> Image.Image:
    """Draw the first labels from best to worst, with cosine, probability and a bar."""
    listed, column = labels[:_MOST_LABELS], min(width - 2 * MARGIN, 560)
    more = len(labels) - len(listed)
    row = Image.new("RGB", (width, 26 * (len(listed) + 1 + bool(more))), PAPER)
    pen, left = ImageDraw.Draw(row), (width - column) // 2
    name_width = column - 270
    for across, text in ((0, "label"), (name_width, "cosine"), (name_width + 70, "probability")):
        write(pen, (left + across, 4), text, FAINT, SMALL)
    for number, item in enumerate(listed, 1):
        top = 26 * number
        text = shortened(item.label, SMALL, name_width - 10)
        write(pen, (left, top + 4), text, INK, SMALL)
        write(pen, (left + name_width, top + 4), f"{item.cosine:z.3f}", INK, SMALL)
        write(pen, (left + name_width + 70, top + 4), f"{item.probability:.1%}", INK, SMALL)
        start = left + name_width + 160
        pen.rectangle((start, top + 6, start + 110, top + 19), outline=FAINT)
        pen.rectangle((start, top + 6, start + round(110 * item.probability), top + 19), fill=FAINT)
    if more:
        text = f"and {more} more labels"
        write(pen, (left, 26 * (len(listed) + 1) + 4), text, FAINT, SMALL)
    return row


def notes(explanation: Explanation, width: int) -> Image.Image:
    """Draw the method, the target, the model, the similarity and the warnings."""
    gaps = [f"{name} {side.path.gap_share}" for name, side in explanation.sides.items() if side.path is not None]
    special = [f"{name} {float(side.special_token_share):.0%}" for name, side in explanation.sides.items()]
    not_shown = (
        f"completeness gap: {', '.join(gaps)} of the change" if gaps else f"special tokens: {', '.join(special)}"
    )
    name = similarity_name(explanation)
    return text_rows(
        [
            f"{method_line(explanation)}    {target_line(explanation)}",
            f"similarity ({name}) {explanation.similarity:z.3f}    {not_shown}",
            *(f"note: {warning}" for warning in other_warnings(explanation.warnings)),
        ],
        width,
    )


_WORDS_ACROSS = 5
_CELL, _LABELS, _STRONGEST, _HEADS_ACROSS = 22, 24, 6, 3


def draw_table(result: WordMaps, look: Appearance) -> Image.Image:
    """Draw the photograph once per word, under that word's map."""
    original, most = resized(photograph(result.input, result.source), TILE), float(result.table.abs().max())
    tiles = []
    for word, grid in zip(result.words, result.table, strict=True):
        laid = overlay(GridMap(grid, result.region, result.size), original, look, most)
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
        sums = "log-probabilities: " + ", ".join(f"{word.text} {word.log_probability:z.2f}" for word in result.words)
    return [
        sums,
        f"{method_line(result)}    {target_line(result)}"
        + ("    the number beside a word is the sum of its map" if _adds_up(result) else ""),
        *(f"note: {warning}" for warning in other_warnings(result.warnings)),
    ]


def draw_decomposition(result: Decomposition, look: Appearance) -> Image.Image:
    """Draw what each head adds over all tokens, and the maps of the heads that add or take most."""
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
        *(f"note: {warning}" for warning in result.warnings),
    ]
    return stacked([title, centered(panels, width), bar, text_rows(notes, width)], width)


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
    panels = []
    for side in sides:
        if isinstance(side, ImageAttribution):
            original = resized(photograph(side.input, side.source), _PANEL)
            panels.append((original, overlay(side, original, look)))
    column = max((original.width for original, _ in panels), default=0)
    width = (max(2 * column + MARGIN, SIDE) if panels else _LINE) + 2 * MARGIN
    rows = [caption(side, width, look) for side in sides if isinstance(side, TextAttribution)]
    for pair in panels:  # a photograph and its map, centered in columns that all rows share
        row = Image.new("RGB", (width, pair[0].height), PAPER)
        left = (width - 2 * column - MARGIN) // 2
        for place, panel in enumerate(pair):
            row.paste(panel, (left + place * (column + MARGIN) + (column - panel.width) // 2, 0))
        rows.append(row)
    bars = [part_scale(side, width, look, is_signed(explanation), name) for name, side in explanation.sides.items()]
    rows = [below(row, bar, _NEAR) for row, bar in zip(rows, bars, strict=True)]
    return stacked([*header(explanation, width, look), *rows, notes(explanation, width)], width)
