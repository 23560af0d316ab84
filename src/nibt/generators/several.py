"""The layout of several images of one prompt, each in the layout of a single one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import ImageInput
from nibt.data.units import Grid
from nibt.errors import Unsupported
from nibt.models._inputs import Inputs
from nibt.models._vision_language.pixels import Layout


class SeveralLayout(Layout):
    """Several images, each in a layout of its own, whose grids are side by side.

    The values of a tower are the pixels of all images, one image after the other: (number, 1). The canvas on which
    pixels are masked has cells of one size.
    """

    shiftable = False

    def __init__(self, layout: Layout, images: Sequence[Inputs], places: Sequence[tuple[int, ...]]) -> None:
        self.layout = layout
        self.inputs = images
        self.blank = layout.blank
        self.counts = [len(rows) for rows in places]
        self.shapes = tuple(layout.grid(*each).shape for each in zip(images, places, strict=True))
        extents = [layout.extent(image) for image in images]
        self.cell = [
            max(-(-extent[k] // shape[k]) for extent, shape in zip(extents, self.shapes, strict=True)) for k in (0, 1)
        ]

    def images(self, image: ImageInput) -> list:
        prepared = [self.layout.images(piece.image)[0] for piece in image.parts]
        return [[item[0] if isinstance(item, list) else item for item in prepared]]

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the pixels of all images, which are those of each alone."""
        pixels = self._pixels
        apart = self.arguments(Inputs(pixels[None]))["pixel_values"]
        joint = encoded["pixel_values"].to(apart)
        joint, apart = (each[each.abs() > 1e-30] for each in (joint, apart))  # without padding
        if joint.shape != apart.shape or not torch.allclose(joint, apart):
            raise Unsupported(
                "the model's processor prepares several images in another way than each alone, which is not "
                "supported: explain each alone"
            )
        return pixels.cpu(), {}

    @property
    def _pixels(self) -> Tensor:
        return torch.cat([image.values.flatten() for image in self.inputs])[:, None]

    def _apart(self, inputs: Inputs) -> list[Inputs]:
        """Return the inputs of each image."""
        batch = len(inputs)
        pieces = inputs.values.split([image.values.numel() for image in self.inputs], 1)
        return [
            replace(image.take([0] * batch), values=piece.reshape(batch, *image.values.shape[1:]))
            for image, piece in zip(self.inputs, pieces, strict=True)
        ]

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the arguments of the model: those of the images of an item follow each other."""
        apart = [self.layout.arguments(image) for image in self._apart(inputs)]
        return {name: _joined([each[name] for each in apart], len(inputs)) for name in apart[0]}

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        if len(places) != sum(self.counts):
            raise Unsupported(
                f"the model reads {len(places)} tokens of all images, and {self.counts} of each alone, which is not "
                "supported: explain each alone"
            )

        rows = torch.tensor(places, device="cpu").split(self.counts)
        grids = [self.layout.grid(image, tuple(row.tolist())) for image, row in zip(self.inputs, rows, strict=True)]
        return Grid(max(grid.rows for grid in grids), sum(grid.columns for grid in grids), parts=tuple(grids))

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        rows = max(shape[0] for shape in self.shapes)
        columns = sum(shape[1] for shape in self.shapes)
        return rows * self.cell[0], columns * self.cell[1]

    def weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        weights = []
        left = 0
        for image, (rows, columns) in zip(self._apart(inputs), self.shapes, strict=True):
            right = left + columns * self.cell[1]
            cut = keep[:, : rows * self.cell[0], left:right]
            left = right
            cut = F.interpolate(cut[:, None], self.layout.extent(image))[:, 0]
            weights.append(self.layout.weights(image, cut).expand_as(image.values).flatten(1))

        return torch.cat(weights, 1)[..., None]


class VideoLayout(SeveralLayout):
    """The frames of a video, each in a layout of its own, or as many together as the model merges."""

    medium = "video"

    def __init__(self, layout: Layout, frames: Sequence[ImageInput]) -> None:
        self.layout = layout
        self.pictures = frames
        self.frames = len(frames)
        self.merged = layout.merged

    def divide(self, encoded: Mapping[str, Tensor], places: tuple[int, ...], like: Tensor) -> None:
        """Divide what the processor makes of the video; a token after all frames is no cell."""
        pixels = encoded["pixel_values_videos"]
        grids = encoded.get("video_grid_thw")
        images = []
        count = len(pixels[0]) if grids is None else int(grids[0, 0])
        for frame in pixels[0][:, None] if grids is None else pixels.chunk(count):
            of_one = (
                {} if grids is None else {"image_grid_thw": torch.cat([torch.ones_like(grids[:, :1]), grids[:, 1:]], 1)}
            )
            values, extra = self.layout.values({"pixel_values": frame, **of_one})
            extra = {name: value[None].to(like.device) for name, value in extra.items()}
            images.append(Inputs(values[None].to(like), extra))

        size = len(places) // count if grids is not None else isqrt(len(places) // count) ** 2
        super().__init__(self.layout, images, [places[size * each : size * (each + 1)] for each in range(count)])
        self.names = tuple(name for name in ("second_per_grid_ts",) if name in encoded)

    def images(self, image: ImageInput) -> list:
        return [[frame.pil_image for frame in self.pictures]]

    def values(self, encoded: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return self._pixels.cpu(), {name: encoded[name][0] for name in self.names}

    def arguments(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the arguments of the model, for which a video is more than its frames."""
        joined = super().arguments(inputs)
        extra = {name: inputs.extra[name] for name in self.names}
        if "image_grid_thw" not in joined:
            return {"pixel_values_videos": joined["pixel_values"].unflatten(0, (len(inputs), -1)), **extra}

        grids = joined["image_grid_thw"].unflatten(0, (len(inputs), -1))
        grids = torch.cat([grids[:, :, 0].sum(1, keepdim=True), grids[:, 0, 1:]], 1)
        return {"pixel_values_videos": joined["pixel_values"], "video_grid_thw": grids, **extra}

    def grid(self, inputs: Inputs, places: tuple[int, ...]) -> Grid:
        return super().grid(inputs, places[: sum(self.counts)])


def _joined(values: Sequence[Tensor], batch: int) -> Tensor:
    """Return what a model takes of each image, padded to one shape, in the order of the items of a batch."""
    shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    padded = []
    for value in values:
        lacking = [size - count for size, count in zip(shape, value.shape[1:], strict=True)]
        padded.append(F.pad(value, [side for count in reversed(lacking) for side in (0, count)]).chunk(batch))
    return torch.cat([piece for pieces in zip(*padded, strict=True) for piece in pieces])
