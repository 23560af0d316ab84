"""The data and the text of the view of results: maps, words and tables as rounded numbers, and what is said of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import Region
from nibt.errors import BadInput
from nibt.records import JsonObject
from nibt.report.image.layout import resized, uri
from nibt.report.image.parts import boxed, photograph
from nibt.report.image.words import WordsView, words_view
from nibt.report.request import is_signed, shared_word_scale
from nibt.report.view import MapView, names_of, require_view, view_of
from nibt.results.attribution import Attribution, ImageAttribution, SideAttribution, TextAttribution
from nibt.results.base import Beside, ResultWithMaps, require_result
from nibt.results.explanation import Explanation
from nibt.results.regions import Regions

SIDE = 640  # pixels
QUALITY = 85  # of JPEG
DIGITS = 4  # significant
_NOTHING = torch.tensor(0.0, dtype=torch.float32, device="cpu")
MOST_CELLS = 64  # of a map along one axis, since methods that score pixels have hundreds of thousands of cells


@dataclass(frozen=True)
class Panel(Beside):
    """A result on a page, with a title and, beside it, the table of regions of the same pair.

    Attributes:
        answer: The result.
        table: The word-region table of the same pair, if there is one.
        title: The title.
        problem: Why there is no table.

    Raises:
        BadInput: The table belongs to another pair, or the result is not an explanation.
    """

    answer: ResultWithMaps
    table: Regions | None = None
    title: str = ""
    problem: str = ""

    def __post_init__(self) -> None:
        require_view(self.answer, "a page", MapView)
        if self.table is None:
            return

        require_result(self.table, "the table of a panel", Regions)
        if not isinstance(self.answer, Explanation) or self.answer.is_comparison:
            raise BadInput("a table needs an explanation of an image with a caption: leave table out")

        answer_pair, table_pair = ((result.caption, result.size) for result in (self.answer, self.table))
        if answer_pair != table_pair:
            raise BadInput(f"the table must be of the same pair as the answer, {answer_pair} (got {table_pair})")

    @property
    def words_have_maps(self) -> Any:
        """The table with a map for each word, if there is one."""
        return self.table if isinstance(self.answer, Explanation) else self.answer

    @property
    def sides(self) -> Mapping[str, SideAttribution]:
        """The images and captions of the panel, by name; for a table alone, its sums over words and over patches."""
        return self.answer.sides if isinstance(self.answer, Explanation) else _sums(self.answer)


@dataclass(frozen=True)
class Failure:
    """The title and the reason, as plain text, of a panel that could not be computed."""

    title: str
    message: str


EncodedImages: TypeAlias = dict[str, tuple[int, int]]
"""The images of a view, each encoded once as a data URI, with the sizes of the originals."""


def panel_data(panel: Panel, images: EncodedImages) -> JsonObject:
    """Return the data of a panel."""
    table = panel.words_have_maps
    sides: list[JsonObject] = [
        {
            **_side(attribution, name, table, images, getattr(panel.answer, "box", None)),
            "pale": panel.answer.is_noise(name),
        }
        for name, attribution in panel.sides.items()
    ]
    stages = [side for side in sides if side["kind"] == "image"]
    decisive = getattr(panel.answer, "decisive", None)
    if decisive is not None and decisive.word is None:
        stages[0]["part"] = _part(decisive.cells)

    if len(stages) > 1:  # two images that are compared share a scale
        largest = max(max(map(abs, side["scores"])) for side in stages)
        names = names_of([side.source for side in panel.sides.values() if isinstance(side, ImageAttribution)])
        for name, side in zip(names, stages, strict=True):
            side |= {"largest": largest, "shared": True, "source": name}

    captions = [side for side in sides if side["kind"] == "text"]
    if isinstance(panel.answer, Explanation) and len(captions) > 1:
        for side in captions:
            side["largest"] = shared_word_scale(panel.answer)

    return {
        "sides": sides,
        "table": None if table is None else _table_data(table),
        "signed": is_signed(panel.answer),
        "separate": panel.table is not None,  # the table of another computation than that of the scores of words
        "text": view_of(panel.answer).text,
    }


def _table_data(table: Any) -> JsonObject:
    """Return the data of a table: the map of each word, its errors and its decisive part."""
    view = view_of(table)
    errors = view.errors(table) if isinstance(view, WordsView) else []
    parts = view.parts(table) if isinstance(view, WordsView) else []
    return {
        **_mapped(table.table, table.region, table.size),
        "rows": [rounded(coarse(grid)) for grid in table.table],
        "errors": [None if error is None else rounded(coarse(error)) for error in errors],
        "parts": [None if part is None else _part(part) for part in parts],
    }


def _part(cells: Tensor) -> list[int]:
    """Return 1 for the cells of a part, else 0."""
    part = coarse(cells.float())
    return (part >= part.amax() / 2).flatten().int().tolist()


def rounded(scores: Tensor) -> list[float]:
    """Flatten scores and round them to a few significant digits.

    >>> rounded(torch.tensor([[0.123456, -2.0]]))
    [0.1235, -2.0]
    """
    return [float(f"{score:.{DIGITS}g}") for score in scores.flatten().tolist()]


def _side(attribution: SideAttribution, name: str, table: Any, images: EncodedImages, box: Any = None) -> JsonObject:
    if isinstance(attribution, ImageAttribution):
        picture = boxed(resized(photograph(attribution.input, attribution.source), SIDE), attribution.size, box)
        encoded = uri(picture, "JPEG", quality=QUALITY)
        images.setdefault(encoded, attribution.size)
        return {
            "kind": "image",
            "name": name,
            "image": list(images).index(encoded),
            **_mapped(attribution.grid, attribution.region, attribution.size),
            "scores": rounded(coarse(attribution.grid)),
            "errors": None if attribution.error is None else rounded(coarse(attribution.error)),
        }

    scores = rounded(torch.tensor([word.score for word in attribution.words], dtype=torch.float32, device="cpu"))
    unsure = set[tuple[int, ...]]()
    if table is not None:
        matters = words_view(table).words_matter(table)
        unsure = {entry.tokens for entry, is_evidence in zip(table.words, matters, strict=True) if not is_evidence}

    rows = {} if table is None else {entry.tokens: row for row, entry in reversed([*enumerate(table.words)])}
    words = [
        {
            "text": word.text,
            "score": score,
            "error": word.error,
            "row": rows.get(word.tokens),
            "pale": word.tokens in unsure,
        }
        for word, score in zip(attribution.words, scores, strict=True)
    ]
    return {"kind": "text", "name": name, "caption": attribution.source, "words": words}


def coarse(grid: Float[Tensor, "*word row column"]) -> Float[Tensor, "*word coarse_row coarse_column"]:
    """Return a map of at most ``MOST_CELLS`` cells along each axis, with the sums of the scores they cover."""
    down, across = (_covering(count).to(grid) for count in grid.shape[-2:])
    return down @ grid @ across.T


def _covering(count: int) -> Float[Tensor, "coarse fine"]:
    """Return the share of each of ``count`` cells in each coarser cell; the identity if there are few cells."""
    length = max(1.0, count / MOST_CELLS)
    low = length * torch.arange(min(count, MOST_CELLS), dtype=torch.float64)[:, None]
    cells = torch.arange(count, dtype=torch.float64)
    inside = torch.minimum(low + length, cells + 1) - torch.maximum(low, cells)
    return inside.clamp(0, 1)


def _mapped(grid: Tensor, region: Region, size: tuple[int, int]) -> JsonObject:
    """Return the grid, and the part of the image that it covers, relative to the image's width and height."""
    across = [region.left / size[0], region.top / size[1], region.width / size[0], region.height / size[1]]
    return {"grid": [min(count, MOST_CELLS) for count in grid.shape[-2:]], "region": across}


def _sums(table: Any) -> Mapping[str, SideAttribution]:
    """Return the sum of all words' maps, and the sum of each word's map."""
    scores = torch.zeros(len(table.units.explained), dtype=torch.float32, device="cpu")
    for word, grid in zip(table.words, table.table, strict=True):
        scores[word.tokens[0]] = grid.sum()
    image = Attribution(table.table.sum(0).flatten(), table.grid, _NOTHING)
    text = Attribution(scores, table.units, _NOTHING)
    return {
        "image": ImageAttribution.of(
            image, source=table.source, region=table.region, size=table.size, input=table.input
        ),
        "text": TextAttribution.of(text, table.caption),
    }


_CONTRASTS = ("difference", "softmax", "centered")  # targets whose question names other captions
