"""The image of the words of a caption or of an answer: the photograph once per word, under that word's map."""

from collections.abc import Iterator

from PIL import Image

from nibt.report.colors import Appearance
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import MARGIN, TILE, centered, resized, stacked, text_rows, tile
from nibt.report.image.rows import header, photograph, scale
from nibt.report.request import WordMaps, is_signed, method_line, similarity_name, target_line
from nibt.results.explanation import other_warnings
from nibt.results.regions import Regions

_ACROSS = 5


def draw_table(result: WordMaps, look: Appearance) -> Image.Image:
    """Draw the photograph once per word, under that word's map."""
    tiles = list(_tiles(result, resized(photograph(result.input, result.source), TILE), look))
    across = min(_ACROSS, len(tiles))
    width = max(across * (max(tile.width for tile in tiles) + MARGIN) + MARGIN, 640)
    rows = [centered(tiles[first : first + across], width) for first in range(0, len(tiles), across)]
    signed = is_signed(result)
    one_sided = look.positive_only or (not signed and bool((result.table >= 0).all()))
    bar = scale(float(result.table.abs().max()), width, look, one_sided, signed, name="all words")
    return stacked([*header(result, width, look), *rows, bar, text_rows(_notes(result), width)], width)


def _tiles(result: WordMaps, photograph: Image.Image, look: Appearance) -> Iterator[Image.Image]:
    most = float(result.table.abs().max())
    for word, grid in zip(result.words, result.table, strict=True):
        laid = overlay(GridMap(grid, result.region, result.size), photograph, look, most)
        yield tile(laid, word.text, f"{float(grid.sum()):+z.3f}" if _adds_up(result) else "")


def _adds_up(result: WordMaps) -> bool:
    return isinstance(result, Regions) or result.adds_up


def _notes(result: WordMaps) -> list[str]:
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
