"""The layouts in which processors of vision-language models give the pixels of an image.

A tower takes an image as rows and columns of pixels, or as tiles; a layout converts between that and what the
processor gives and the model takes, without arithmetic.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid
from nibt.errors import Unsupported
from nibt.models._inputs import Inputs
from nibt.preprocessing.hugging_face import blank_value, image_preparation, native_size
from nibt.preprocessing.images import ImageProcessor, crop_notes

_SPECIAL = 8  # tokens of a vision encoder that are no cells at most, such as a class token and registers


class Layout(ABC):
    """The layout of the pixels of one image, or of several."""

    medium: Literal["image", "video"] = "image"  # what the processor is given
    frames = 0  # of a video
    merged = 1  # frames of a video that have one map
    shiftable = True  # the values of a tower are one image
    shapes: tuple[tuple[int, int], ...] = ()  # the rows and columns of each of several images
    company = 1  # how many images a processor is given to prepare one of several
    alone = False  # whether a prompt has one image only
    names: tuple[str, ...] = ()  # of what the model takes besides the pixels, as the processor gives it

    def __init__(self, processor: ImageProcessor) -> None:
        self.processor = processor
        self.blank = blank_value(processor)

    @property
    def several(self) -> "Layout":
        """The layout of each of several images."""
        return self

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the pixels of one image, and what else the model needs of it, from what the processor gives."""
        return encoded["pixel_values"][0], {name: encoded[name][0] for name in self.names}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the arguments of the model for the images of a batch."""
        return {"pixel_values": inputs.values, **{name: inputs.extra[name] for name in self.names}}

    @abstractmethod
    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        """Return the grid of the cells."""

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        """Return the height and the width of the image in pixels."""
        height, width = inputs.values.shape[-2:]
        return height, width

    def region(self, image: ImageInput) -> Region:
        """Return the part of the image that the grid covers."""
        return Region(0.0, 0.0, *map(float, image.size))

    def notes(self, image: ImageInput) -> tuple[str, ...]:
        """Return the warnings about how an image was read and resized."""
        return image.notes

    def images(self, image: ImageInput) -> Any:
        """Return the images of one prompt as the processor takes them."""
        return [image.pil_image]

    def weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        """Return a weight per pixel in the layout of the inputs."""
        return keep[:, None]


class SquareLayout(Layout):
    """One image of a fixed size, as in PaliGemma and LLaVA."""

    def __init__(self, processor: ImageProcessor) -> None:
        super().__init__(processor)
        if getattr(processor, "do_pad", False) and type(processor).__name__.startswith("LlavaImageProcessor"):
            raise Unsupported("the processor pads images to a square, which is not supported: set its do_pad to False")
        self.preparation = image_preparation(processor, None, None, native_size(processor), None)

    def region(self, image: ImageInput) -> Region:
        return self.preparation.resize.region(image.size)

    def notes(self, image: ImageInput) -> tuple[str, ...]:
        return crop_notes(image, self.region(image))

    def images(self, image: ImageInput) -> Any:
        return [self.preparation.resized_strip(image.pil_image)]

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        """Return the grid of the cells. The first tokens may be special ones of the vision encoder."""
        height, width = self.extent(inputs)
        side = (height * width / len(places)) ** 0.5
        rows, columns = (int(length / side + 1e-6) for length in (height, width))
        special = len(places) - rows * columns
        if not 0 <= special <= _SPECIAL:
            raise Unsupported(
                f"the model reads {len(places)} tokens of an image of {width} x {height} pixels, which are not one for "
                "each cell of a grid: nibt cannot place them on the image"
            )
        return ordered(Grid(rows, columns, places=places[special:]))


class LetterboxLayout(SquareLayout):
    """One image that is padded to a square of a fixed size, as in DeepSeek-VL and Janus."""

    def region(self, image: ImageInput) -> Region:
        """Return the square around the image, whose center is that of the image."""
        side = max(image.size)
        left, top = ((edge - side) / 2 for edge in image.size)
        return Region(left, top, float(side), float(side))

    def notes(self, image: ImageInput) -> tuple[str, ...]:
        return image.notes

    def images(self, image: ImageInput) -> Any:
        return [image.pil_image]


class RowsLayout(Layout):
    """One image of any size, as in Pixtral and Mistral 3, whose rows of cells end with tokens that are no cells."""

    names = ("image_sizes",)

    def __init__(self, processor: ImageProcessor, side: int) -> None:
        super().__init__(processor)
        self.side = side  # of a cell in pixels

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        height, width = self.extent(inputs)
        return ordered(Grid(height // self.side, width // self.side, places=places))


class PatchLayout(Layout):
    """The flattened patches of Qwen-VL, whose grid follows the size of the image.

    Patches are in the order of blocks of ``merge`` x ``merge`` patches, which the model merges to one token.
    """

    def __init__(self, processor: ImageProcessor, nested: bool = False, still: bool = True) -> None:
        super().__init__(processor)
        self.nested = nested
        self.still = still
        self.patch = processor.patch_size
        self.merge = processor.merge_size
        self.merged = processor.temporal_patch_size  # a still image is repeated

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the pixels, (channel, height, width), and the grid; frames are further channels."""
        shape = encoded["image_grid_thw"]
        rows, columns = self._cells(shape)
        patches = encoded["pixel_values"].reshape(
            rows, columns, self.merge, self.merge, -1, self.merged, self.patch, self.patch
        )
        kept = patches[:, :, :, :, :, :1] if self.still else patches
        image = kept.flatten(4, 5).permute(4, 0, 2, 5, 1, 3, 6)
        return image.reshape(len(image), rows * self.unit, -1), {"image_grid_thw": shape[0]}

    @property
    def unit(self) -> int:
        """The side of a cell in pixels."""
        return self.merge * self.patch

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the patches and the grid."""
        batch, channels, height, width = inputs.values.shape
        rows = height // self.unit
        columns = width // self.unit
        image = inputs.values.reshape(batch, channels, rows, self.merge, self.patch, columns, self.merge, self.patch)
        patches = image.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None]
        repeated = patches.expand(*patches.shape[:6], self.merged if self.still else 1, *patches.shape[7:])
        flat = repeated.reshape(batch, rows * columns * self.merge**2, -1)
        return {
            "pixel_values": flat if self.nested else flat.flatten(0, 1),
            "image_grid_thw": inputs.extra["image_grid_thw"],
        }

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        return ordered(Grid(*self._cells(inputs.extra["image_grid_thw"]), places=places))

    def _cells(self, shape: Tensor) -> tuple[int, int]:
        """Return the rows and columns of merged patches."""
        rows, columns = (int(count) // self.merge for count in shape[0, 1:])
        return rows, columns


class RowPatchLayout(PatchLayout):
    """Patches of (channel, height, width) in rows, which the model merges after its encoder, as in PaddleOCR-VL."""

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the pixels, (channel, height, width), and the grid."""
        shape = encoded["image_grid_thw"]
        _, rows, columns = shape[0].tolist()
        patches = encoded["pixel_values"].unflatten(0, (rows, columns))
        image = patches.permute(2, 0, 3, 1, 4)
        return image.reshape(len(image), rows * self.patch, columns * self.patch), {"image_grid_thw": shape[0]}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        cut = inputs.values.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        return {"pixel_values": patches, "image_grid_thw": inputs.extra["image_grid_thw"]}


class FlattenedLayout(Layout):
    """Flattened patches with their row and column, padded to a fixed number, as in Kosmos-2.5 and Pix2Struct."""

    shiftable = False
    names = ("flattened_places",)

    def __init__(self, processor: ImageProcessor, positions: int) -> None:
        super().__init__(processor)
        self.side = dict(processor.patch_size)["height"]
        self.positions = positions

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the pixels, (channel, height, width), and the row and column of each patch, 0 for padding."""
        patches = encoded["flattened_patches"][0]
        places = patches[:, :2].long()
        rows, columns = places.amax(0).tolist()
        if max(rows, columns) >= self.positions:  # as of a strip, whose patches are all in one row
            raise ValueError(
                f"the model has positions for {self.positions - 1} rows and columns of patches, and this has {rows} x "
                f"{columns}"
            )

        shown = patches[: rows * columns, 2:].reshape(rows, columns, self.side, self.side, -1)
        image = shown.permute(4, 0, 2, 1, 3).reshape(-1, rows * self.side, columns * self.side)
        return image, {"flattened_places": places}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        places = inputs.extra["flattened_places"]
        patches = flat_patches(inputs.values, self.side, places.shape[1])
        return {"flattened_patches": torch.cat([places.to(patches), patches], -1)}

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        height, width = self.extent(inputs)
        rows, columns = height // self.side, width // self.side
        return ordered(Grid(rows, columns, places=places[: rows * columns]))


class PaddedLayout(RowsLayout):
    """The flattened patches of Gemma 4, with padding to a fixed number; the model averages them to cells."""

    def __init__(self, processor: ImageProcessor) -> None:
        super().__init__(processor, processor.patch_size * processor.pooling_kernel_size)
        self.patch = processor.patch_size

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the pixels, (channel, height, width), and the column and row of each patch, -1 for padding."""
        places = encoded["image_position_ids"][0]
        columns, rows = (places.amax(0) + 1).tolist()
        patches = encoded["pixel_values"][0, : rows * columns].reshape(rows, columns, self.patch, self.patch, -1)
        image = patches.permute(4, 0, 2, 1, 3).reshape(-1, rows * self.patch, columns * self.patch)
        return image, {"image_position_ids": places}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        places = inputs.extra["image_position_ids"]
        return {
            "pixel_values": flat_patches(inputs.values, self.patch, places.shape[1]),
            "image_position_ids": places,
        }


class TileLayout(Layout):
    """Tiles of a large image and, last, an overview of the whole image, as in Idefics 3 and SmolVLM.

    The values of a tower are the tiles: (tile, channel, height, width).
    """

    shiftable = False

    def images(self, image: ImageInput) -> Any:
        return [[image.pil_image]]  # a list for each prompt

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the tiles, their number in rows and columns, and which of their pixels are padding."""
        tiles = encoded["pixel_values"][0]
        mask = encoded["pixel_attention_mask"][0]
        if not mask.all():
            raise Unsupported("the processor pads tiles, which nibt cannot place on the image: use its own settings")
        return tiles, {"pixel_attention_mask": mask, "tiles": encoded["tiles"]}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the tiles. A blank tile gets a pixel of almost zero, since models take zeros for padding."""
        values = inputs.values.clone()
        blank = (values == 0).flatten(2).all(-1)
        values[..., 0, 0, 0] += blank * torch.finfo(values.dtype).tiny
        return {"pixel_values": values, "pixel_attention_mask": inputs.extra["pixel_attention_mask"]}

    def _shape(self, inputs: Inputs) -> tuple[int, int]:
        rows, columns = inputs.extra["tiles"][0].tolist()
        return max(1, rows), max(1, columns)

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        """Return the grid over all tiles, whose overview is a coarser grid."""
        rows, columns = self._shape(inputs)
        cells, overview = self._cells(inputs, places)
        if inputs.values.shape[1] == 1:  # a small image is not divided
            return ordered(Grid(*cells, places=places))

        count = rows * columns * cells[0] * cells[1]
        order = torch.tensor(places[:count]).view(rows, columns, *cells).transpose(1, 2).flatten().tolist()
        coarser = Grid(*overview, places=places[count:])
        return Grid(rows * cells[0], columns * cells[1], places=tuple(order), overview=coarser)

    def _cells(self, inputs: Inputs, places: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the rows and columns of the cells of a tile, and of the overview."""
        side = round((len(places) / inputs.values.shape[1]) ** 0.5)
        return (side, side), (side, side)

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        rows, columns = self._shape(inputs)
        height, width = inputs.values.shape[-2:]
        return rows * height, columns * width

    def weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        """Return the weights of the tiles, and those of the overview: the means of ``keep`` over its pixels."""
        (rows, columns), (height, width) = self._shape(inputs), inputs.values.shape[-2:]
        tiles = keep.unflatten(2, (columns, width)).unflatten(1, (rows, height)).transpose(2, 3).flatten(1, 2)
        if inputs.values.shape[1] > rows * columns:
            tiles = torch.cat([tiles, F.interpolate(keep[:, None], (height, width), mode="area")], 1)
        return tiles[:, :, None]


def flat_patches(images: Float[Tensor, "batch channel height width"], side: int, count: int) -> Tensor:
    """Return the patches of images, row by row and padded: (batch, patch, pixel x channel)."""
    cut = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))
    patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return F.pad(patches, (0, 0, 0, count - patches.shape[1]))


def ordered(grid: Grid) -> Grid:
    """Return a grid whose tokens follow each other as one with a prefix."""
    first = grid.places[0]
    if grid.places != tuple(range(first, first + grid.count)):
        return grid
    return Grid(grid.rows, grid.columns, prefix=first)
