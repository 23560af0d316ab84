"""Segments of an image as the units of perturbation methods."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from typing_extensions import override

from nibt.core.side import Side
from nibt.data.images import SAMPLE
from nibt.data.segments import numbered, read_segments, superpixels
from nibt.data.units import Segments, Units
from nibt.errors import BadOption, Unsupported
from nibt.methods._units import UnitMethod
from nibt.models.base import ImageTower
from nibt.options import Range


@dataclass(frozen=True)
class SegmentMethod(UnitMethod):
    """Base class of methods whose units may be segments of the image.

    Args:
        units: The units of an image: ``tower`` for the patches or cells of the model, ``segments`` for superpixels, or
            ``segments:FILE`` for those of a label image, an .npy file, or a JSON file with masks of COCO. ``{stem}`` in
            the name of the file stands for that of the image, without its suffix. Captions have words.
        segments: The number of superpixels that is aimed at.

    """

    units: str = field(default="tower", kw_only=True)
    segments: Annotated[int, Range(2, 10_000)] = field(default=40, kw_only=True)

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            BadOption: An option has an invalid value, or segments have views.

        """
        super().__post_init__()
        kind = self.units.partition(":")[0]
        if kind not in ("tower", "segments") or (kind == "tower" and self.units != "tower"):
            raise BadOption(f"units must be tower, segments or segments:FILE (got {self.units!r})")
        if self.units.endswith(":"):
            raise BadOption(f"units must name a file after segments: (got {self.units!r})")
        if self.units != "tower" and self.views > 1:
            raise BadOption(f"views must be 1 with segments, which are finer than patches (got {self.views})")

    @override
    def cost_formula(self) -> str:
        return self.cost if self.units == "tower" else self.cost.replace("units", "segments")

    @override
    def units_of(self, side: Side) -> Units | Segments:
        if self.units == "tower" or not isinstance(side.tower, ImageTower):
            return side.units
        labels = [self._labels(side, item) for item in range(len(side.inputs))]
        return Segments(torch.from_numpy(np.stack(labels)), tuple(int(own.max()) + 1 for own in labels))

    def _labels(self, side: Side, item: int) -> np.ndarray:
        """Return the segment of each pixel of the tower's input."""
        pixels = side.inputs.values[item]
        if pixels.ndim != 3 or not side.inputs.around:
            raise Unsupported(
                f"units must be tower for a {type(side.tower).__name__}, which takes patches instead of an image"
            )
        if self.units == "segments":
            return superpixels(pixels.float().permute(1, 2, 0).cpu().numpy(), self.segments)
        image, region = side.inputs.around[item].image, side.inputs.regions[item]
        file = self.units.partition(":")[2].replace("{stem}", Path(image.source.removeprefix(SAMPLE)).stem)
        whole = read_segments(file, image.size)
        down = _places(region.top, region.height, pixels.shape[1], image.size[1])
        across = _places(region.left, region.width, pixels.shape[2], image.size[0])
        return numbered(whole[down][:, across])


def _places(start: float, length: float, count: int, size: int) -> np.ndarray:
    """Return the pixel of the image at the center of each of ``count`` pixels of a part of it, or the nearest one."""
    centers = start + (np.arange(count) + 0.5) * length / count
    return np.clip(np.floor(centers).astype(int), 0, size - 1)
