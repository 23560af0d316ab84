"""The picture of the maps of words: the photograph once per word, under that word's map."""

from abc import abstractmethod
from typing import Any

from PIL import Image
from torch import Tensor

from nibt.report.colors import Appearance
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import MARGIN, TILE, centered, resized, stacked, text_rows, tile
from nibt.report.image.parts import header, photograph, scale
from nibt.report.request import is_signed, method_line, note_lines, target_line
from nibt.report.view import MapView, view_of
from nibt.results.base import ResultWithMaps

_WORDS_ACROSS = 5


class WordsView(MapView[Any]):
    """Base class of views of results with a map for each word."""

    @abstractmethod
    def sums(self, result: Any) -> str:
        """Return the numbers below the maps."""

    def adds_up(self, result: Any) -> bool:
        """Return whether each map adds up to the number beside its word."""
        return True

    def words_matter(self, result: Any) -> list[bool]:
        """Return whether the map of each word is evidence."""
        return [True] * len(result.words)

    def errors(self, result: Any) -> list[Tensor | None]:
        """Return the errors of the map of each word; None for maps that are no estimates."""
        return [None] * len(result.words)

    def parts(self, result: Any) -> list[Any]:
        """Return the cells of the part of the map of each word that decides; None for maps without one."""
        return [None] * len(result.words)

    def outline(self, result: Any) -> str:
        return "The outline is at half of the largest score of all words"

    def draw(self, result: Any, look: Appearance) -> Image.Image:
        look = look.pale if result.is_noise() else look
        matters = self.words_matter(result)
        most = self.largest_score(result)
        original = resized(photograph(result.input, result.source), TILE)
        tiles = []
        maps = zip(result.table, self.errors(result), self.parts(result), strict=True)
        for word, (grid, error, part), is_evidence in zip(result.words, maps, matters, strict=True):
            mapped = GridMap(grid, result.region, result.size, error, part)
            laid = overlay(mapped, original, look if is_evidence else look.pale, most)
            tiles.append(tile(laid, word.text, f"{float(grid.sum()):+z.3f}" if self.adds_up(result) else ""))

        across = min(_WORDS_ACROSS, len(tiles))
        width = max(across * (max(tile.width for tile in tiles) + MARGIN) + MARGIN, 640)
        rows = [centered(tiles[first : first + across], width) for first in range(0, len(tiles), across)]

        signed = is_signed(result)
        one_sided = look.is_one_sided(signed, float(result.table.min()))
        bar = scale(most, width, look, one_sided, signed, name="all words")
        return stacked([*header(result, width, look), *rows, bar, text_rows(self._notes(result), width)], width)

    def largest_score(self, result: Any) -> float:
        """Return the largest absolute score of the maps of words that matter, or of all if none does."""
        matters = self.words_matter(result)
        table = result.table[matters] if any(matters) else result.table
        return float(table.abs().max())

    def _notes(self, result: Any) -> list[str]:
        line = f"{method_line(result)}    {target_line(result)}"
        if self.adds_up(result):
            line += "    the number beside a word is the sum of its map"
        return [self.sums(result), line, *note_lines(result)]


def words_view(result: ResultWithMaps) -> WordsView:
    """Return the view of a result with a map for each word."""
    view = view_of(result)
    assert isinstance(view, WordsView), "what has a map for each word has its view"
    return view
