"""Maps on the pixels of images."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from nibt.data.images import Region
from nibt.types import PerUnit


def min_max(scores: PerUnit, mask: Bool[Tensor, "*batch unit"]) -> PerUnit:
    """Return the scores rescaled to [0, 1] over the units of a mask; other units get 0."""
    low = scores.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
    high = scores.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
    span = high - low
    divisor = torch.where(span > 0, span, torch.ones_like(span))  # a flat map becomes 0, not NaN
    rescaled = (scores - low) / divisor
    return rescaled.masked_fill(~mask, 0.0)


def to_pixels(
    grid: Float[Tensor, "*batch rows columns"], height: int, width: int
) -> Float[Tensor, "*batch {height} {width}"]:
    """Return a grid, resized bilinearly to the pixels of the region that it covers.

    If each unit has its score all over, a pixel has the mean over a window of the size of a unit around its center; at
    the edges, the outer units go on. So scores belong to units, and nothing is said about where in them.
    """
    flat = grid.reshape(-1, 1, *grid.shape[-2:])
    return F.interpolate(flat, (height, width), mode="bilinear").reshape(*grid.shape[:-2], height, width)


def placed(region: Region, full: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Scale a region of an image to a resized copy of the image."""
    across = size[0] / full[0]
    down = size[1] / full[1]
    left = round(region.left * across)
    top = round(region.top * down)
    return left, top, left + max(1, round(region.width * across)), top + max(1, round(region.height * down))


def over_image(
    grid: Float[Tensor, "row column"],
    region: Region,
    full: tuple[int, int],
    size: tuple[int, int] | None = None,
    outside: float = 0.0,
) -> np.ndarray:
    """Return the signed scores of a grid in pixels, as ``to_pixels`` has them: float32, (height, width).

    Only the pixels of the image are computed: where a model pads, a region may be far larger.
    """
    width, height = size or full
    left, top, right, bottom = placed(region, full, (width, height))
    down = (max(0, top), min(height, bottom))
    across = (max(0, left), min(width, right))

    # bilinear weights are products of weights of rows and of columns
    rows, columns = grid.shape
    of_rows = _weights(rows, bottom - top, np.arange(*down) - top)
    of_columns = _weights(columns, right - left, np.arange(*across) - left)

    canvas = np.full((height, width), outside, np.float32)
    canvas[slice(*down), slice(*across)] = of_rows @ grid.float().numpy() @ of_columns.T
    return canvas


def _weights(count: int, length: int, places: np.ndarray) -> Float32[np.ndarray, "place count"]:
    """Return the weights of units, resized linearly to a length in pixels, at some of these pixels."""
    # the centers of pixels in units, counted from the center of the first one, as F.interpolate has them
    positions = ((places + 0.5) * count / length - 0.5).clip(0, count - 1)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(count))).astype(np.float32)
