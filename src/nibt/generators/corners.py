"""Layouts of images that stand in the upper left corner of a canvas, padded at the bottom and at the right.

The grid has the rows and columns of cells that show a part of the image. Cells of padding are special tokens.
"""

from abc import abstractmethod
from collections.abc import Mapping
from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid
from nibt.models._inputs import Inputs
from nibt.models._vision_language.pixels import Layout, TileLayout, ordered
from nibt.preprocessing.images import ImageProcessor


class CornerLayout(Layout):
    """Tiles of a canvas in whose upper left corner an image stands. The values of a tower are the tiles."""

    shiftable = False
    cell: int  # the side of a cell in pixels of the canvas

    @abstractmethod
    def placed(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the rows and columns of tiles of the canvas of an image, and its height and width in it in pixels."""

    def kept(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of cells that show a part of an image."""
        rows, columns = (ceil(side / self.cell) for side in self.placed(height, width)[1])
        return rows, columns

    def region(self, image: ImageInput) -> Region:
        width, height = image.size
        _, (down, across) = self.placed(height, width)
        rows, columns = self.kept(height, width)
        return Region(0.0, 0.0, columns * self.cell * width / across, rows * self.cell * height / down)

    def _size(self, inputs: Inputs) -> tuple[int, int]:
        height, width = inputs.extra["image_sizes"][0].tolist()
        return height, width

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        rows, columns = self.kept(*self._size(inputs))
        return rows * self.cell, columns * self.cell

    def of_tiles(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch tile h w"]:
        """Return the weights of the pixels of the tiles; those of padding are 1."""
        (rows, columns), _ = self.placed(*self._size(inputs))
        height, width = inputs.values.shape[-2:]
        below = rows * height - keep.shape[1]
        right = columns * width - keep.shape[2]
        canvas = F.pad(keep, (0, max(0, right), 0, max(0, below)), value=1.0)[:, : rows * height, : columns * width]
        return canvas.unflatten(2, (columns, width)).unflatten(1, (rows, height)).transpose(2, 3).flatten(1, 2)

    def weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        return self.of_tiles(inputs, keep)[:, :, None]

    def cells(self, inputs: Inputs, places: Tensor) -> tuple[int, int, tuple[int, ...]]:
        """Return the rows and columns of cells that show a part of the image, and their places.

        ``places`` are those of all cells of all tiles: (row of tiles, column of tiles, row, column).
        """
        rows, columns = self.kept(*self._size(inputs))
        canvas = places.transpose(1, 2).flatten(2).flatten(0, 1)
        kept = canvas[:rows, :columns]
        return kept.shape[0], kept.shape[1], tuple(kept.flatten().tolist())


class MaskedLayout(CornerLayout):
    """One square that an image fills from its upper left corner, with a mask of its pixels, as in Aria."""

    names = ("pixel_mask", "image_sizes")

    def __init__(self, processor: ImageProcessor, cell: int, most: int) -> None:
        super().__init__(processor)
        self.cell = cell
        self.most = most  # pixels of a side

    def placed(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        scale = self.most / max(height, width)
        sides = (max(int(side * scale), self.processor.min_image_size) for side in (height, width))
        down, across = (min(side, self.most) for side in sides)
        return (1, 1), (down, across)

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return encoded["pixel_values"], {name: encoded[name][0] for name in self.names}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"pixel_values": inputs.values.flatten(0, 1), "pixel_mask": inputs.extra["pixel_mask"]}

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        side = self.most // self.cell
        rows, columns, kept = self.cells(inputs, torch.tensor(places).view(1, 1, side, side))
        return ordered(Grid(rows, columns, places=kept))


class CrossLayout(CornerLayout):
    """Tiles that the decoder attends to, with a class token before the patches of each, as in Llama 3.2 Vision."""

    names = ("aspect_ratio_ids", "aspect_ratio_mask", "image_sizes")

    def __init__(self, processor: ImageProcessor, cell: int) -> None:
        super().__init__(processor)
        self.cell = cell
        self.tile = dict(processor.size)["height"]
        self.most = processor.max_image_tiles

    def placed(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        from transformers.models.mllama.image_processing_mllama import (
            get_image_size_fit_to_canvas,
            get_optimal_tiled_canvas,
        )

        sizes = {"image_height": height, "image_width": width, "tile_size": self.tile}
        down, across = get_optimal_tiled_canvas(max_image_tiles=self.most, **sizes)
        shown = get_image_size_fit_to_canvas(canvas_height=down, canvas_width=across, **sizes)
        tiles = int(down) // self.tile, int(across) // self.tile
        return tiles, (int(shown[0]), int(shown[1]))

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the tiles without those that pad their number."""
        rows, columns = self.placed(*encoded["image_sizes"][0].tolist())[0]
        return encoded["pixel_values"][0, 0, : rows * columns], {name: encoded[name][0] for name in self.names}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        missing = self.most - inputs.values.shape[1]
        tiles = F.pad(inputs.values, (0, 0) * 3 + (0, missing))[:, None]
        return {"pixel_values": tiles, **{name: inputs.extra[name] for name in self.names[:2]}}

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        tiles = torch.tensor(places).view(self.most, -1)[:, 1:]  # after the class token of each tile
        (rows, columns), side = self.placed(*self._size(inputs))[0], self.tile // self.cell
        down, across, kept = self.cells(inputs, tiles[: rows * columns].reshape(rows, columns, side, side))
        return ordered(Grid(down, across, places=kept))


class QuarterLayout(TileLayout):
    """Four quarters of an image and, last, the whole image, or the image alone, each with a mask, as in Idefics 2."""

    def __init__(self, processor: ImageProcessor, cell: int) -> None:
        super().__init__(processor)
        self.cell = cell

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the tiles, and which of their pixels are no padding."""
        return encoded["pixel_values"][0], {"pixel_attention_mask": encoded["pixel_attention_mask"][0]}

    def _sides(self, inputs: Inputs) -> list[tuple[int, int]]:
        """Return the rows and columns of whole patches of each tile."""
        masks = inputs.extra["pixel_attention_mask"][0]
        sides = torch.stack([masks[:, :, 0].sum(1), masks[:, 0].sum(1)], 1) // self.cell
        return [(rows, columns) for rows, columns in sides.tolist()]

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        height, width = inputs.values.shape[-2:]
        tiles = torch.tensor(places).view(-1, height // self.cell, width // self.cell)
        kept = [tile[:rows, :columns] for tile, (rows, columns) in zip(tiles, self._sides(inputs), strict=True)]
        if len(kept) == 1:
            return ordered(Grid(*kept[0].shape, places=tuple(kept[0].flatten().tolist())))

        rows = [torch.cat(kept[first : first + 2], 1) for first in (0, 2)]
        cells = torch.cat(rows)
        overview = Grid(*kept[-1].shape, places=tuple(kept[-1].flatten().tolist()))
        return Grid(*cells.shape, places=tuple(cells.flatten().tolist()), overview=overview)

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        sides = self._sides(inputs)
        lower = sides[2] if len(sides) > 1 else (0, 0)
        right = sides[1] if len(sides) > 1 else (0, 0)
        return (sides[0][0] + lower[0]) * self.cell, (sides[0][1] + right[1]) * self.cell

    def weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        """Return the weights of the quarters, and those of the whole image: the means of ``keep`` over its pixels."""
        sides = self._sides(inputs)
        height, width = inputs.values.shape[-2:]
        down, across = (side * self.cell for side in sides[0])
        parts = [keep]
        if len(sides) > 1:
            quarters = [
                half.split([across, keep.shape[2] - across], 2) for half in keep.split([down, keep.shape[1] - down], 1)
            ]
            size = [side * self.cell for side in sides[-1]]
            parts = [part for half in quarters for part in half]
            parts.append(F.interpolate(keep[:, None], size, mode="area")[:, 0])

        padded = [F.pad(part, (0, width - part.shape[2], 0, height - part.shape[1]), value=1.0) for part in parts]
        return torch.stack(padded, 1)[:, :, None]
