"""The image of several methods on one pair, side by side."""

from collections.abc import Iterator, Mapping

from PIL import Image

from nibt.errors import BadInput
from nibt.report.appearance import Appearance, appearance
from nibt.report.colors import PAPER
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, TILE, centred, shown, stacked, text_rows, tile
from nibt.report.image.rows import caption, header, part_scale, photograph
from nibt.report.request import is_signed, legend, method_name, model_name, similarity_name, target_line
from nibt.results.explanation import Explanation, other_warnings

_ACROSS = 5


def draw_beside(
    answers: Mapping[str, Explanation], positive_only: bool = False, style: str = "overlay", cmap: str = "red_blue"
) -> Image.Image:
    """Draw the photograph and, for each named result, its map over the photograph with its words below.

    Each has its own color scale, since methods have different units.
    """
    look = appearance(positive_only, style, cmap)
    pairs = {(answer.source, answer.caption, answer.size) for answer in answers.values()}
    if len(pairs) != 1:
        raise BadInput(f"give answers to one pair of image and caption (got {len(pairs)} pairs)")
    first = next(iter(answers.values()))
    original = shown(photograph(first.image.input, first.source), TILE)
    tiles = [tile(original, "the image")]
    tiles += [_tile(answer, original, name, look) for name, answer in answers.items()]
    across = min(_ACROSS, len(tiles))
    width = across * (max(one.width for one in tiles) + MARGIN) + MARGIN
    rows = [centred(tiles[start : start + across], width) for start in range(0, len(tiles), across)]
    lines = [
        f"similarity ({similarity_name(first)}) {first.similarity:z.3f}; each map and each caption has its own scale",
        *_requests(answers),
        *(f"note: {warning}" for warning in dict.fromkeys(_warnings(answers))),
    ]
    return stacked([*_header(answers, width, look), *rows, text_rows(lines, width)], width)


def _header(answers: Mapping[str, Explanation], width: int, look: Appearance) -> Iterator[Image.Image]:
    """Yield the question of the first result, and the legends of signed and of other methods."""
    first = next(iter(answers.values()))
    question, *no_match = header(first, width, look)
    others = [name for name, answer in answers.items() if is_signed(answer) != is_signed(first)]
    readings = [f"{', '.join(others)}: {legend(answers[others[0]], look)}"] if others else []
    yield from (question, *(text_rows([text], width) for text in readings), *no_match)


def _requests(answers: Mapping[str, Explanation]) -> Iterator[str]:
    """Yield the methods of all results, in one line per model and target."""
    groups: dict[str, list[str]] = {}
    for name, answer in answers.items():
        shared = f"model {model_name(answer)}, {target_line(answer)}"
        groups.setdefault(shared, []).append(f"{name}: {method_name(answer)}")
    yield from (f"{'; '.join(methods)}; {shared}" for shared, methods in groups.items())


def _warnings(answers: Mapping[str, Explanation]) -> Iterator[str]:
    for answer in answers.values():
        yield from other_warnings(answer.warnings)


def _tile(answer: Explanation, original: Image.Image, name: str, look: Appearance) -> Image.Image:
    above = tile(overlay(answer, original, look), name)
    words = caption(answer.text, above.width + MARGIN // 2, look, small=True)
    bars = [part_scale(part, above.width + MARGIN, look, is_signed(answer)) for part in answer.sides.values()]
    parts = [above, bars[0], words, bars[1]]
    framed = Image.new("RGB", (above.width, sum(part.height + 6 for part in parts)), PAPER)
    top = 0
    for part in parts:
        framed.paste(part, ((above.width - part.width) // 2, top))
        top += part.height + 6
    return framed
