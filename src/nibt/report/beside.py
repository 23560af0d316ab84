"""Several answers to one pair beside each other: what each method says of the same picture and the same caption."""

from collections.abc import Mapping

from PIL import Image

from nibt.errors import BadInput
from nibt.explanation import Explanation
from nibt.part import CaptionPart
from nibt.report.colours import PAPER
from nibt.report.heatmap import overlay
from nibt.report.layout import MARGIN, TILE, centred, shown, stacked, tile, told
from nibt.report.rows import caption, photograph

_ACROSS = 5


def draw_beside(answers: Mapping[str, Explanation], positive: bool = False) -> Image.Image:
    """The photograph and, for each answer under its name, its map over it with its words below.

    Each has its own colour scale, for the scores of different methods are in different units.

    Raises:
        BadInput: there are no answers, they are of different pairs, or the picture is no longer there.

    """
    pairs = {(answer.source, answer.caption, answer.size) for answer in answers.values()}
    if len(pairs) != 1:
        raise BadInput(f"give answers to one pair of picture and caption (got {len(pairs)} pairs)")
    first = next(iter(answers.values()))
    original = shown(photograph(first.picture, first.source), TILE)
    tiles = [tile(original, "the picture")]
    tiles += [_tile(answer, original, name, positive) for name, answer in answers.items()]
    across = min(_ACROSS, len(tiles))
    width = across * (max(one.width for one in tiles) + MARGIN) + MARGIN
    rows = [centred(tiles[start : start + across], width) for start in range(0, len(tiles), across)]
    note = f"{first.caption!r}, similarity {first.similarity:.3f}; each map and each caption has its own scale"
    return stacked([*rows, told([note], width)], width)


def _tile(answer: Explanation, original: Image.Image, name: str, positive: bool) -> Image.Image:
    above = tile(overlay(answer, original, positive), name)
    words = caption(CaptionPart(answer.caption, answer.text), above.width + MARGIN // 2, positive, small=True)
    framed = Image.new("RGB", (above.width, above.height + 6 + words.height), PAPER)
    framed.paste(above, (0, 0))
    framed.paste(words, ((above.width - words.width) // 2, above.height + 6))
    return framed
