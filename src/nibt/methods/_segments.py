"""Segments of an image as the units of perturbation methods."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from nibt.core.side import Side
from nibt.data.images import SAMPLE
from nibt.data.segments import numbered, read_segments, superpixels
from nibt.data.units import Segments, Units
from nibt.errors import BadOption, Unsupported
from nibt.methods._units import PlayerMethod, explains_pixels
from nibt.options import Range


@dataclass(frozen=True)
class SegmentMethod(PlayerMethod):
    """Base class of methods whose units may be segments of the image.

    Args:
        units: ``words``, ``tower`` (tokens), ``segments`` (superpixels) or ``segments:FILE``.
        segments: The intended number of superpixels.

    """

    segments: Annotated[int, Range(2, 10_000)] = field(default=40, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._segmented and self.views > 1:
            raise BadOption(f"views must be 1 with segments, which are finer than patches (got {self.views})")

    def check_units(self) -> None:
        name = self.units.partition(":")[0]
        if self.units not in ("words", "tower") and name != "segments":
            raise BadOption(f"units must be words, tower, segments or segments:FILE (got {self.units!r})")
        if self.units.endswith(":"):
            raise BadOption(f"units must name a file after segments: (got {self.units!r})")

    @property
    def _segmented(self) -> bool:
        """Whether the units of images are segments."""
        return self.units not in ("words", "tower")

    def cost_formula(self) -> str:
        return self.cost.replace("units", "segments") if self._segmented else self.cost

    def units_of(self, side: Side) -> Units | Segments:
        if not self._segmented or not explains_pixels(side):
            return side.units
        labels = [self._labels(side, item) for item in range(len(side.inputs))]
        return Segments(torch.from_numpy(np.stack(labels)), tuple(int(segments.max()) + 1 for segments in labels))

    def _labels(self, side: Side, item: int) -> np.ndarray:
        """Return the segment of each pixel of the tower's input."""
        pixels = side.inputs.values[item]
        if pixels.ndim != 3:
            raise Unsupported(
                f"units must be words or tower for a {type(side.tower).__name__}, which takes patches instead of an "
                "image"
            )
        if self.units != "segments" and not side.inputs.around:
            raise Unsupported(f"units cannot come from a file for a {type(side.tower).__name__}: write units=segments")
        if self.units == "segments":
            return superpixels(pixels.float().permute(1, 2, 0).cpu().numpy(), self.segments)
        image, region = side.inputs.around[item].image, side.inputs.regions[item]
        file = self.units.partition(":")[2].replace("{stem}", Path(image.source.removeprefix(SAMPLE)).stem)
        image_labels = read_segments(file, image.size)
        down = _places(region.top, region.height, pixels.shape[1], image.size[1])
        across = _places(region.left, region.width, pixels.shape[2], image.size[0])
        return numbered(image_labels[down][:, across])


def _places(start: float, length: float, count: int, size: int) -> np.ndarray:
    """Return the pixel of the image at the center of each of ``count`` pixels of a part of it, or the nearest one."""
    centers = start + (np.arange(count) + 0.5) * length / count
    return np.clip(np.floor(centers).astype(int), 0, size - 1)
