"""The layout of a processor, and those that choose tiles by the size of the image: InternVL, LLaVA-NeXT, -OneVision."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid
from nibt.errors import BadInput, Unsupported
from nibt.models._inputs import Inputs
from nibt.models._vision_language.pixels import (
    Layout,
    LetterboxLayout,
    PaddedLayout,
    PatchLayout,
    RowPatchLayout,
    RowsLayout,
    SquareLayout,
    TileLayout,
    flat_patches,
    ordered,
)
from nibt.preprocessing.images import ImageProcessor, Processor

_PATCH_NDIM = 4  # patch, channel, row, column
_TILE = re.compile(r"<(?:\|img_)?row_(\d+)_col_(\d+)\|?>")


class CanvasLayout(TileLayout):
    """Tiles of an image that was squeezed to a whole number of them and, last, an overview, as in InternVL."""

    def __init__(self, processor: ImageProcessor) -> None:
        if type(processor).__name__.startswith("Cohere2Vision"):
            from transformers.models.cohere2_vision.image_processing_cohere2_vision import get_optimal_tiled_canvas
        else:
            from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

        super().__init__(processor)
        self.tiled: Any = get_optimal_tiled_canvas

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the tiles, and their number in rows and columns."""
        tiles = encoded["pixel_values"]
        processor = self.processor
        columns = 1
        rows = 1
        if len(tiles) > 1:  # the call of a processor may divide images though its file says crop_to_patches=false
            size = tuple(encoded["image_sizes"][0].tolist())
            tile = tuple(tiles.shape[-2:])
            columns, rows = self.tiled(size, tile, processor.min_patches, processor.max_patches)

        count = rows * columns
        if len(tiles) != (1 if count == 1 else count + 1):
            raise Unsupported(
                f"the processor gives {len(tiles)} tiles, and {rows} x {columns} with an overview were expected: use a "
                "processor of GOT-OCR2 or InternVL"
            )
        return tiles, {"tiles": torch.tensor([rows, columns], device="cpu")}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"pixel_values": inputs.values.flatten(0, 1)}


class PageLayout(CanvasLayout):
    """Tiles of one page, as in GOT-OCR 2, whose processor takes a list of pages for several pages of one prompt."""

    alone = True

    def images(self, image: ImageInput) -> Any:
        return [image.pil_image]


class ThumbnailLayout(TileLayout):
    """Tiles of an image that was squeezed to a whole number of them after an overview, as in PerceptionLM."""

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the tiles with the overview last, and their number in rows and columns."""
        tiles = encoded["pixel_values"][0]
        images = self.processor
        columns = 1
        rows = 1
        if len(tiles) > 1:
            blank = torch.zeros(1, 1, *encoded["image_sizes"][0].tolist(), device="cpu")
            columns, rows = images.resize(blank, images.tile_size, images.max_num_tiles, images.resample)[1]

        return tiles.roll(-1, 0), {"tiles": torch.tensor([rows, columns], device="cpu")}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"pixel_values": inputs.values.roll(1, 1)}

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        first = len(places) // inputs.values.shape[1]
        return super().grid(inputs, (*places[first:], *places[:first]))


class OverviewLayout(ThumbnailLayout):
    """Tiles of an image that was squeezed to a whole number of them after an overview, as in Ovis 2.

    The model also reads tokens between the tiles, which are no cells.
    """

    def __init__(self, processor: Processor) -> None:
        super().__init__(processor.image_processor)
        marks = ("<IMG_ROW>", "<IMG_COL>", "<IMG_END>")
        self.ends = processor.tokenizer.convert_tokens_to_ids(marks)

    def images(self, image: ImageInput) -> Any:
        return [image.pil_image]

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the tiles with the overview last, and their number in rows and columns, from the tokens after them."""
        of_row, of_column, of_image = self.ends
        ids = encoded["input_ids"][0].tolist()
        ids = ids[: ids.index(of_image)]
        rows = 1 + ids.count(of_row)
        columns = 1 + ids.count(of_column) // rows
        return encoded["pixel_values"].roll(-1, 0), {"tiles": torch.tensor([rows, columns], device="cpu")}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"pixel_values": inputs.values.roll(1, 1).flatten(0, 1)}


@dataclass(frozen=True)
class _Canvas:
    """A canvas of tiles, on which an image was pasted in the middle; other cells hold only padding."""

    rows: int  # of tiles
    columns: int
    patch: int  # the side of a cell in pixels
    shape: tuple[int, int]  # the rows and columns of the cells that the model keeps
    before: tuple[int, int]  # the rows above them, and the columns to the left
    shrunk: tuple[int, int]  # the rows and columns to which the model shrinks them


class AnyResolutionLayout(Layout):
    """An overview of the whole image and, after it, tiles of a canvas, as in LLaVA-NeXT and LLaVA-OneVision.

    The model removes cells that hold only padding, and ends each row of cells with a token that is no cell.
    """

    shiftable = False
    names = ("image_sizes",)

    def __init__(self, processor: ImageProcessor) -> None:
        super().__init__(processor.image_processor)
        self.processor = processor
        self.pinpoints = processor.image_processor.image_grid_pinpoints

    @property
    def several(self) -> Layout:
        return PaddedTileLayout(self.processor) if hasattr(self.processor, "vision_aspect_ratio") else self

    @property
    def tile(self) -> int:
        """The side of a tile in pixels."""
        images = self.processor.image_processor
        boxes = [dict(box) for box in (images.crop_size, images.size) if box]
        return next(int(box[name]) for box in boxes for name in ("height", "shortest_edge") if box.get(name))

    @property
    def side(self) -> int:
        """The rows of cells of a tile."""
        patch = getattr(self.processor, "patch_size", None)
        return self.tile // patch if patch else round(self.processor.num_image_tokens**0.5)

    def _canvas(self, height: int, width: int) -> _Canvas:
        """Return the canvas of an image."""
        from transformers.image_processing_utils import select_best_resolution
        from transformers.models.llava_next.modeling_llava_next import unpad_image

        best = select_best_resolution((height, width), [list(pair) for pair in self.pinpoints])
        down, across = (edge // self.tile for edge in best)
        numbers = torch.arange(down * across * self.side**2, device="cpu").view(1, down * self.side, -1)
        kept = unpad_image(numbers, (height, width))[0]
        rows, columns = kept.shape
        if not kept.numel():
            raise BadInput(f"the model keeps no cell of an image of {width} x {height} pixels: crop it")

        before = divmod(int(kept[0, 0]), across * self.side)
        most = getattr(self.processor, "vision_aspect_ratio", None)  # of OneVision
        ratio = (rows * columns / (int(most.removeprefix("anyres_max_")) * self.side**2)) ** 0.5 if most else 1.0
        shrunk = (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)
        return _Canvas(down, across, self.tile // self.side, (rows, columns), before, shrunk)

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        """Return the grid of the kept cells, whose overview is a coarser grid."""
        (height, width), base = inputs.extra["image_sizes"][0].tolist(), self.side**2
        rows, columns = self._canvas(height, width).shrunk
        if len(places) != base + rows * (columns + 1):
            raise Unsupported(
                f"the model reads {len(places)} image tokens, and {base} of an overview with {rows} x {columns} and "
                f"{rows} ends of rows were expected: nibt cannot place them on the image"
            )

        cells = torch.tensor(places[base:]).view(rows, columns + 1)[:, :-1].flatten().tolist()
        return Grid(rows, columns, places=tuple(cells), overview=Grid(self.side, self.side, places=places[:base]))

    def region(self, image: ImageInput) -> Region:
        """Return the rectangle of the kept cells, which may end some pixels beyond the image or within it."""
        from transformers.image_processing_utils import get_patch_output_size

        width, height = image.size
        canvas = self._canvas(height, width)
        tiled = canvas.rows * self.tile, canvas.columns * self.tile
        size = get_patch_output_size(torch.empty(1, height, width, device="meta"), tiled, "channels_first")
        starts = []
        lengths = []
        for axis, original in enumerate((height, width)):
            scale = original / size[axis]
            starts.append((canvas.before[axis] * canvas.patch - (tiled[axis] - size[axis]) // 2) * scale)
            lengths.append(canvas.shape[axis] * canvas.patch * scale)

        return Region(starts[1], starts[0], lengths[1], lengths[0])

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        canvas = self._canvas(*inputs.extra["image_sizes"][0].tolist())
        rows, columns = canvas.shape
        return rows * canvas.patch, columns * canvas.patch

    def weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        """Return the weights of the overview, the means of ``keep`` over its pixels, and those of the tiles."""
        canvas = self._canvas(*inputs.extra["image_sizes"][0].tolist())
        top, left = (count * canvas.patch for count in canvas.before)
        bottom, right = (
            count * self.tile - start - length
            for count, start, length in zip((canvas.rows, canvas.columns), (top, left), keep.shape[1:], strict=True)
        )
        padded = F.pad(keep, (left, right, top, bottom), value=1.0)
        tiles = padded.unflatten(2, (canvas.columns, self.tile)).unflatten(1, (canvas.rows, self.tile))
        overview = F.interpolate(keep[:, None], (self.tile, self.tile), mode="area")
        return torch.cat([overview, tiles.transpose(2, 3).flatten(1, 2)], 1)[:, :, None]


class PaddedTileLayout(AnyResolutionLayout):
    """One of several images of LLaVA-OneVision: one tile, to which it is padded, and a token that is no cell."""

    company = 2  # since an image alone is divided

    def images(self, image: ImageInput) -> Any:
        return [[image.pil_image] * self.company]

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        tiles, extra = super().values(encoded)
        return tiles[0], extra

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        sizes = inputs.extra["image_sizes"]
        counts = torch.full_like(sizes[:, 0], self.company)
        return {"pixel_values": inputs.values[:, None], "image_sizes": sizes, "batch_num_images": counts}

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        return ordered(Grid(self.side, self.side, places=places[:-1]))

    extent = Layout.extent
    weights = Layout.weights

    def region(self, image: ImageInput) -> Region:
        side = max(image.size)
        left, top = ((edge - side) // 2 for edge in image.size)
        return Region(float(left), float(top), float(side), float(side))


class OverlapLayout(Layout):
    """An overview and, after it, overlapping crops of a canvas, as flattened patches, as in Molmo 2.

    The values of a tower are (crop, patch, pixel x channel). The model pools patches to cells, and ends each row of
    cells with a token that is no cell. The numbers of patches are those of one image.
    """

    alone = True
    shiftable = False
    names = ("image_token_pooling", "image_grids", "image_num_crops", "image_sizes")

    def __init__(self, processor: ImageProcessor) -> None:
        super().__init__(processor)
        self.patch = processor.patch_size
        self.crop = dict(processor.size)["height"]
        self.window = self.crop - sum(processor.overlap_margins) * self.patch

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        extra = {name: encoded[name][0] for name in self.names if name != "image_token_pooling"}
        return encoded["pixel_values"], {**extra, "image_token_pooling": encoded["image_token_pooling"]}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        pooled = inputs.extra["image_token_pooling"]
        patches = inputs.values.shape[1] * inputs.values.shape[2]
        starts = torch.arange(len(pooled), device=pooled.device)[:, None, None] * patches
        numbered = torch.where(pooled >= 0, pooled + starts, pooled)  # the patches of all items
        return {
            "pixel_values": inputs.values.flatten(0, 1),
            "image_token_pooling": numbered.flatten(0, 1),
            "image_grids": inputs.extra["image_grids"],
            # Transformers 5.25 adds the patches of earlier items itself, by these numbers; 5.24 reads none
            "image_num_crops": torch.zeros_like(inputs.extra["image_num_crops"]),
        }

    def _canvas(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width in pixels of the canvas to which an image is resized."""
        from transformers.models.molmo2.image_processing_molmo2 import compute_crop_geometry

        images = self.processor
        geometry = compute_crop_geometry(
            height, width, images.max_crops, images.overlap_margins, self.crop, images.patch_size
        )
        return geometry[2], geometry[3]

    def _cells(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Return the rows and columns of cells; the last ones may have fewer patches."""
        pools = self.processor.pooling_size
        rows, columns = (ceil(side // self.patch / pool) for side, pool in zip(canvas, pools, strict=True))
        return rows, columns

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        down, across, rows, columns = inputs.extra["image_grids"][0].tolist()
        count = down * across
        return Grid(rows, columns, places=places[count:], overview=Grid(down, across, places=places[:count]))

    def region(self, image: ImageInput) -> Region:
        width, height = image.size
        canvas = self._canvas(height, width)
        rows, columns = self._cells(canvas)
        down, across = (pool * self.patch for pool in self.processor.pooling_size)
        return Region(0.0, 0.0, columns * across * width / canvas[1], rows * down * height / canvas[0])

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        rows, columns = self._cells(self._canvas(*inputs.extra["image_sizes"][0].tolist()))
        down, across = (pool * self.patch for pool in self.processor.pooling_size)
        return rows * down, columns * across

    def weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        """Return the weights of the overview, the means of ``keep`` over its pixels, and those of the crops."""
        height, width = self._canvas(*inputs.extra["image_sizes"][0].tolist())
        canvas = keep[:, :height, :width]
        crops = canvas.unfold(1, self.crop, self.window).unfold(2, self.crop, self.window).flatten(1, 2)
        overview = F.interpolate(canvas[:, None], (self.crop, self.crop), mode="area")
        pixels = torch.cat([overview, crops], 1)
        side = self.crop // self.patch
        patches = pixels.unflatten(3, (side, -1)).unflatten(2, (side, -1)).transpose(3, 4).flatten(4).flatten(2, 3)
        return patches.repeat_interleave(inputs.values.shape[-1] // self.patch**2, -1)


class FlatTileLayout(TileLayout):
    """Tiles and, last, an overview of another shape, as flattened patches with padding, as in LFM2-VL.

    The values of a tower are (tile, patch, pixel x channel).
    """

    def __init__(self, processor: ImageProcessor) -> None:
        super().__init__(processor)
        self.patch = processor.encoder_patch_size
        self.merge = processor.downsample_factor

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the tiles, their number in rows and columns, and the rows and columns of their patches."""
        tiles = encoded["pixel_values"]
        count = int(encoded["tiles"].prod())
        if len(tiles) != (count + 1 if count else 1):
            raise Unsupported(
                f"the processor gives {len(tiles)} tiles, and the prompt has marks of {count} with an overview: leave "
                "use_thumbnail and use_image_special_tokens on"
            )
        return tiles, {name: encoded[name] for name in ("pixel_attention_mask", "spatial_shapes", "tiles")}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        values = {name: inputs.extra[name] for name in ("pixel_attention_mask", "spatial_shapes")}
        return {name: value.flatten(0, 1) for name, value in {"pixel_values": inputs.values, **values}.items()}

    def _sides(self, inputs: Inputs) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the rows and columns of the patches of a tile, and of the overview."""
        shapes = inputs.extra["spatial_shapes"][0].tolist()
        return tuple(shapes[0]), tuple(shapes[-1])

    def _cells(self, inputs: Inputs, places: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
        (rows, columns), (down, across) = self._sides(inputs)
        return (rows // self.merge, columns // self.merge), (down // self.merge, across // self.merge)

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        (rows, columns), ((height, width), _) = self._shape(inputs), self._sides(inputs)
        return rows * height * self.patch, columns * width * self.patch

    def weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        """Return the weights of the patches of the tiles, and those of the overview."""
        (rows, columns), (_, overview) = self._shape(inputs), self._sides(inputs)
        _, count, patches, width = inputs.values.shape
        tiles = keep.unflatten(2, (columns, -1)).unflatten(1, (rows, -1)).transpose(2, 3).flatten(1, 2)
        parts = [tiles[:, :, None]]
        if count > 1:
            size = overview[0] * self.patch, overview[1] * self.patch
            parts.append(F.interpolate(keep[:, None], size, mode="area")[:, None])

        channels = width // self.patch**2
        flat = [flat_patches(part.flatten(0, 1), self.patch, patches).unflatten(0, (len(keep), -1)) for part in parts]
        return torch.cat(flat, 1).repeat_interleave(channels, -1)


def _gives_square_patches(images: ImageProcessor) -> bool:
    """Return whether an image processor gives patches with their rows and columns, and not flattened."""
    side = 2 * images.patch_size * images.merge_size
    patches = images(Image.new("RGB", (side, side)), return_tensors="pt")["pixel_values"]
    return patches.ndim == _PATCH_NDIM


def layout_of(processor: Processor, nested: bool = False) -> Layout:
    """Return the layout of a processor's pixels."""
    images = processor.image_processor
    if hasattr(images, "image_grid_pinpoints"):
        return AnyResolutionLayout(processor)
    if hasattr(images, "overlap_margins"):
        return OverlapLayout(images)
    if hasattr(images, "use_covering_area_grid"):
        return OverviewLayout(processor)
    if hasattr(processor, "multi_page"):
        return PageLayout(images)
    if hasattr(images, "crop_to_patches"):
        return CanvasLayout(images)
    if hasattr(images, "vision_input_type"):
        return ThumbnailLayout(images)
    if hasattr(processor, "image_break_token"):
        return RowsLayout(images, processor.patch_size * processor.spatial_merge_size)
    if hasattr(images, "encoder_patch_size"):
        return FlatTileLayout(images)
    if hasattr(images, "pooling_kernel_size"):
        return PaddedLayout(images)
    if hasattr(images, "merge_size"):
        return RowPatchLayout(images) if _gives_square_patches(images) else PatchLayout(images, nested)
    if hasattr(images, "pad_to_square") and hasattr(images, "min_size"):
        return LetterboxLayout(images)
    return TileLayout(images) if hasattr(images, "do_image_splitting") else SquareLayout(images)


def layout_of_frames(processor: Processor) -> Layout:
    """Return the layout of the frames of a video that a processor gives together."""
    videos = getattr(processor, "video_processor", None)
    if hasattr(videos, "merge_size"):
        return PatchLayout(videos, still=False)
    if videos is None or not hasattr(processor.image_processor, "image_grid_pinpoints"):
        raise Unsupported(
            "this model takes no video that nibt can explain: give the frames as images, with their places"
        )
    return SquareLayout(videos)


def encoded(processor: Processor, output: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the output of a processor, with the number of tiles in rows and columns if it divides images."""
    values = dict(output)
    if "pixel_attention_mask" in values:
        places = _TILE.findall(processor.tokenizer.decode(values["input_ids"][0]))
        rows, columns = (max((int(place[axis]) for place in places), default=0) for axis in (0, 1))
        values["tiles"] = torch.tensor([rows, columns], device="cpu")
    return values
