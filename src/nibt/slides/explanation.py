"""Explanations of slides: the maps of their tiles, and what each of them adds up to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from nibt.errors import BadInput
from nibt.options import Range, parsed
from nibt.records import JsonObject
from nibt.results.base import Array, ImageItself, ResultWithMaps, Serializable
from nibt.results.explanation import method_text, shortened
from nibt.results.frames import DataFrame, pandas
from nibt.results.records import MethodRecord, TargetRecord
from nibt.slides.reading import open_slide
from nibt.slides.tiles import Tiling, overview
from nibt.types import ModelRecord

_Whole = Annotated[int, Field(ge=1)]
_Place = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class SlideTile(Serializable):
    """What the scores of one tile add up to: ``baseline + sum + gap = value``.

    Attributes:
        row: The row of the tile, from 0.
        column: The column of the tile, from 0.
        similarity: The similarity of the tile and the caption.
        value: The target on the tile: the similarity, or what it is compared with.
        sum: The sum of the scores of its map.
        baseline: The target at the start of the path; None for methods without one.
        gap: What the sum misses of the change of the target; None for methods without a path.
        codes: The codes of the notes on the tile, such as ``no_match``.
    """

    row: _Place
    column: _Place
    similarity: float
    value: float
    sum: float
    baseline: float | None = None
    gap: float | None = None
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SlideExplanation(ResultWithMaps):
    """One map of a slide, of which each tile was explained on its own.

    The scores of a tile add up to the target of that tile. No number is computed for the whole slide, since the model
    never sees it: the sum over all tiles is not the similarity of the slide and the caption.

    Attributes:
        source: The path of the slide, or a description of it.
        image_hash: 16 hexadecimal digits: a hash of its file, or of the size and pixels of an image in memory.
        size: Width and height of the slide, in pixels at full resolution.
        caption: The caption.
        tile: The side of a tile, in pixels of what the model is given.
        downsample: How many pixels at full resolution one of these pixels has along each side.
        magnification: The magnification of the tiles; None if the file does not state that of its objective.
        microns: The size of a pixel of the tiles in micrometers; None if the file does not state it.
        least_content: The least share of a tile's pixels that are not blank; other tiles are left out.
        content: The share of the pixels of each tile that are not blank, rows x columns of tiles.
        tiles: The tiles that were explained, row by row.
        maps: Their signed scores: tiles x rows x columns of patches.
        target: The target with its options.
        method: The method with its resolved options.
        model: The model: id, hash of the weights, device, dtype.
        versions: The versions of packages.
        warnings: Warnings for the reader; those on several tiles say on how many.
        codes: The code of each warning.
        input: The slide as a small image with all tiles. It is None if the result was loaded from a file.
    """

    kind: ClassVar[str] = "slide"
    schema: ClassVar[int] = 1

    source: str
    image_hash: str
    size: tuple[_Whole, _Whole]
    caption: str
    tile: _Whole
    downsample: Annotated[float, Field(ge=1)]
    magnification: Annotated[float, Field(gt=0)] | None = None
    microns: Annotated[float, Field(gt=0)] | None = None
    least_content: Annotated[float, Field(ge=0, le=1)]
    content: Annotated[Float[Tensor, "tile_row tile_column"], Array(2, is_share=True)]
    tiles: Annotated[tuple[SlideTile, ...], Field(min_length=1)]
    maps: Annotated[Float[Tensor, "tile row column"], Array(3)]
    target: TargetRecord
    method: MethodRecord
    model: ModelRecord
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    input: ImageItself = field(default=None, repr=False, compare=False)

    @model_validator(mode="after")
    def _tiles_fit(self) -> "SlideExplanation":
        """Check what is read from a file; what nibt computes fits."""
        shape = self.tiling.rows, self.tiling.columns
        if self.content.shape != shape:
            raise BadInput(f"content must have {shape[0]} x {shape[1]} entries (got {tuple(self.content.shape)})")
        if len(self.maps) != len(self.tiles):
            raise BadInput(f"maps must have a map for each of the {len(self.tiles)} tiles (got {len(self.maps)})")

        places = [(tile.row, tile.column) for tile in self.tiles]
        outside = [place for place in places if place[0] >= shape[0] or place[1] >= shape[1]]
        if outside or places != sorted(set(places)):
            raise BadInput(f"tiles must be in rows and columns below {shape}, in order and each once")
        return self

    @property
    def tiling(self) -> Tiling:
        """The tiles that cover the slide."""
        return Tiling(self.size, self.tile, self.downsample)

    @property
    def grid(self) -> Float[Tensor, "row column"]:
        """The map of the whole slide: the maps of the tiles side by side, NaN where a tile was left out."""
        rows, columns = self.content.shape
        down, across = self.maps.shape[1:]
        grid = torch.full((rows, down, columns, across), torch.nan, dtype=torch.float32, device="cpu")
        for tile, scores in zip(self.tiles, self.maps, strict=True):
            grid[tile.row, :, tile.column] = scores
        return grid.flatten(2).flatten(0, 1)

    @property
    def values(self) -> Float[Tensor, "tile_row tile_column"]:
        """The target on each tile, rows x columns of tiles; NaN where a tile was left out."""
        return self._by_place([tile.value for tile in self.tiles])

    @property
    def similarities(self) -> Float[Tensor, "tile_row tile_column"]:
        """The similarity of each tile and the caption, rows x columns of tiles; NaN where a tile was left out."""
        return self._by_place([tile.similarity for tile in self.tiles])

    def _by_place(self, numbers: list[float]) -> Float[Tensor, "tile_row tile_column"]:
        placed = torch.full(self.content.shape, torch.nan, dtype=torch.float32, device="cpu")
        rows = [tile.row for tile in self.tiles]
        columns = [tile.column for tile in self.tiles]
        placed[rows, columns] = torch.tensor(numbers, dtype=torch.float32, device="cpu")
        return placed

    def strongest(self, count: int = 5) -> list[SlideTile]:
        """Return the tiles with the largest values of the target, in order.

        Raises:
            BadOption: The count is no whole number above 0.
        """
        count = parsed("count", count, Annotated[int, Range(1)])
        return sorted(self.tiles, key=lambda tile: -tile.value)[:count]

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return left, top, width and height of a tile, in pixels at full resolution."""
        self._check_place(row, column)
        left, top = self.tiling.corner(row, column)
        extent = max(1, round(self.tiling.extent))
        return left, top, extent, extent

    def crop(self, row: int, column: int) -> Image.Image:
        """Return a tile as the model was given it, read from the slide: ``nibt.explain`` of it gives its map.

        Raises:
            BadInput: There is no such tile, or the slide is no longer there or was changed.
        """
        self._check_place(row, column)
        with open_slide(self.source) as slide:
            self._check_digest(slide.digest)
            return self.tiling.read(slide, row, column)

    def thumbnail(self) -> Image.Image:
        """Return the slide as a small image with all tiles.

        Raises:
            BadInput: The result was loaded from a file, and the slide is no longer there or was changed.
        """
        if self.input is not None:
            return self.input.pil_image
        with open_slide(self.source) as slide:
            self._check_digest(slide.digest)
            return overview(slide, self.tiling)

    def _check_digest(self, digest: str) -> None:
        if digest != self.image_hash:
            raise BadInput(
                f"the slide {self.source!r} was changed since it was explained: explain it again, or restore it"
            )

    def _check_place(self, row: int, column: int) -> None:
        rows, columns = self.content.shape
        row = parsed("row", row, int)
        column = parsed("column", column, int)
        if not (0 <= row < rows and 0 <= column < columns):
            raise BadInput(
                f"row must be between 0 and {rows - 1}, and column between 0 and {columns - 1} (got {row} and {column})"
            )

    def to_frame(self) -> DataFrame:
        """Return the tiles as a pandas DataFrame, without their maps.

        Returns:
            A row per explained tile: ``row``, ``column``, ``left``, ``top``, ``side`` (pixels at full resolution),
            ``content``, ``similarity``, ``value``, ``sum``, ``baseline`` and ``gap`` (NaN without a path).

        Raises:
            Unsupported: pandas is not installed.
        """
        return pandas().DataFrame([self.tile_row(tile) for tile in self.tiles])

    def tile_row(self, tile: SlideTile) -> dict[str, float | int]:
        """Return the place and the numbers of a tile by the names of the columns of ``to_frame``."""
        left, top, side, _ = self.box(tile.row, tile.column)
        return {
            "row": tile.row,
            "column": tile.column,
            "left": left,
            "top": top,
            "side": side,
            "content": float(self.content[tile.row, tile.column]),
            "similarity": tile.similarity,
            "value": tile.value,
            "sum": tile.sum,
            "baseline": np.nan if tile.baseline is None else tile.baseline,
            "gap": np.nan if tile.gap is None else tile.gap,
        }

    @property
    def resolution(self) -> str:
        """What a tile shows, in words."""
        text = f"{self.tile} x {self.tile} pixels"
        if self.magnification is not None:
            text += f" at magnification {self.magnification:g}"
        elif self.downsample != 1:
            text += f", {self.downsample:g} times smaller than at full resolution"
        return text + (f" ({self.microns:.3g} micrometers per pixel)" if self.microns else "")

    def request(self) -> JsonObject:
        own = {"tile": self.tile, "downsample": self.downsample, "least_content": self.least_content}
        return {**super().request(), **own}

    def _lines(self) -> Iterator[str]:
        rows, columns = self.content.shape
        values = [tile.value for tile in self.tiles]
        yield f"Explanation of the slide {self.source} with {self.caption!r}"
        yield f"  {len(self.tiles)} of {rows} x {columns} tiles, {self.resolution}; others are blank"
        yield (
            f"  {method_text(self.method)} explains {self.target['name']} on each tile, from {min(values):.4f} to "
            f"{max(values):.4f}; model {self.model.get('id')}"
        )
        strongest = [f"{tile.row}.{tile.column} {tile.value:.4f}" for tile in self.strongest()]
        yield f"  highest tiles (row.column)  {shortened(strongest)}"
        yield f"  map    from {float(self.maps.min()):+.4f} to {float(self.maps.max()):+.4f}"
