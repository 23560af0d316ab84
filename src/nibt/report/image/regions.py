"""The image of a word-region table: the photograph once per word, under that word's map, on one color scale."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.data.images import Region
from nibt.report.appearance import Appearance
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, TILE, centered, resized, stacked, text_rows, tile
from nibt.report.image.rows import header, photograph, scale
from nibt.report.request import method_line, similarity_name, target_line
from nibt.results.explanation import other_warnings
from nibt.results.regions import Regions

_ACROSS = 5


@dataclass(frozen=True)
class WordMap:
    """The map of one word."""

    grid: Float[Tensor, "row column"]
    region: Region
    size: tuple[int, int]


def draw_table(regions: Regions, look: Appearance) -> Image.Image:
    """Draw the photograph once per word, under that word's map."""
    tiles = list(_tiles(regions, resized(photograph(regions.input, regions.source), TILE), look))
    across = min(_ACROSS, len(tiles))
    width = max(across * (max(tile.width for tile in tiles) + MARGIN) + MARGIN, 640)
    rows = [centered(tiles[first : first + across], width) for first in range(0, len(tiles), across)]
    bar = scale(float(regions.table.abs().max()), width, look, look.positive_only, name="all words")
    return stacked([*header(regions, width, look), *rows, bar, text_rows(_notes(regions), width)], width)


def _tiles(regions: Regions, photograph: Image.Image, look: Appearance) -> Iterator[Image.Image]:
    most = float(regions.table.abs().max())
    for word, grid in zip(regions.words, regions.table, strict=True):
        laid = overlay(WordMap(grid, regions.region, regions.size), photograph, look, most)
        yield tile(laid, word.text, f"{float(grid.sum()):+z.3f}")


def _notes(regions: Regions) -> list[str]:
    similarity = f"similarity ({similarity_name(regions)}) {regions.similarity:z.3f}"
    return [
        f"{similarity}    all of the table, special tokens included: "
        f"{float(regions.scores.sum()):+.3f}, gap {regions.gap:+.1g}",
        f"{method_line(regions)}    {target_line(regions)}    the number beside a word is the sum of its map",
        *(f"note: {warning}" for warning in other_warnings(regions.warnings)),
    ]
