"""A word-region table as one image: a small multiple of the photograph for each word, all on one scale."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.data.images import Region
from nibt.errors import BadInput
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, TILE, centred, shown, stacked, tile, told
from nibt.report.image.rows import header, scale
from nibt.report.request import method_line, target_line
from nibt.results.explanation import other_warnings
from nibt.results.interaction import Interaction
from nibt.torch_modes import plain_torch

_ACROSS = 5


@dataclass(frozen=True)
class WordMap:
    """One word's map, as a report draws it."""

    grid: Float[Tensor, "row column"]
    region: Region
    size: tuple[int, int]


@plain_torch()
def draw_interactions(found: Interaction, positive_only: bool = False) -> Image.Image:
    """The photograph once for each word, under that word's map. Red: together they speak for the pair; blue: against.

    Raises:
        BadInput: The table was loaded from a file, and its image is no longer there.

    """
    if found.input is None:
        raise BadInput(f"the image {found.source!r} is no longer there: nothing can be laid over it")
    tiles = list(_tiles(found, shown(found.input.pil_image, TILE), positive_only))
    across = min(_ACROSS, len(tiles))
    width = max(across * (max(tile.width for tile in tiles) + MARGIN) + MARGIN, 640)
    rows = [centred(tiles[first : first + across], width) for first in range(0, len(tiles), across)]
    bar = scale(float(found.table.abs().max()), width, positive_only, name="all words")
    return stacked([*header(found, width, positive_only), *rows, bar, told(_notes(found), width)], width)


def _tiles(found: Interaction, photograph: Image.Image, positive_only: bool) -> Iterator[Image.Image]:
    most = float(found.table.abs().max())
    for word, grid in zip(found.words, found.table, strict=True):
        laid = overlay(WordMap(grid, found.region, found.size), photograph, positive_only, most)
        yield tile(laid, word.text, f"{float(grid.sum()):+.3f}")


def _notes(found: Interaction) -> list[str]:
    return [
        f"similarity (cosine) {found.similarity:.3f}    all of the table, special tokens included: "
        f"{float(found.scores.sum()):+.3f}, gap {found.gap:+.1g}",
        f"{method_line(found)}    {target_line(found)}    the number beside a word is the sum of its map",
        *(f"note: {warning}" for warning in other_warnings(found.warnings)),
    ]
