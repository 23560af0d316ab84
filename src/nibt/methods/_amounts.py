"""Amounts by removal: the scores of each region of a map, scaled to what the target loses without that region.

A region is a peak of the smoothed map, positive or negative, with what drains to it (watershed). Each region alone is
filled in from the pixels around it, in one forward pass. What removal costs is divided among the scores of the region
that have its sign, and scores outside of all regions are scaled as the regions are together. An object that fills much
of an image may be several regions, and removing one of them may cost little, since the others still show it.

What is filled in is wider than the region, since an object reaches beyond its scores. The cells of a region that have
the opposite sign become 0. If the target rises without a region of positive scores, or falls without one of negative
scores, the region changes its sign, which a note says.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int

from nibt.core.inpainting import filled_in
from nibt.core.side import Side
from nibt.data.images import Region
from nibt.data.units import cells_of
from nibt.models.base import ImageTower
from nibt.results.attribution import Attribution
from nibt.results.pixels import to_pixels

MOST = 8
"""The largest number of regions of a map."""
_SMOOTH = 1 / 16  # the deviation of the smoothing and the least distance of peaks, in sides of the image
# relative to the largest absolute smoothed score
_LOWEST_PEAK = 0.1
_EDGE = 0.03  # where regions end
_MARGIN = 1 / 32  # what is filled in around a region, in sides of the image: an object reaches beyond its scores

Pixels = Float[np.ndarray, "height width"]
Labels = Int[np.ndarray, "height width"]


def scaled_by_removal(side: Side, attribution: Attribution) -> Attribution:
    """Return maps whose regions sum to what their removal costs; the sum of a map is then no change along a path."""
    tower = side.tower
    assert isinstance(tower, ImageTower)
    grids = cells_of(attribution.units).unfold(attribution.scores)
    extent = tower.extent(side.inputs)
    maps = to_pixels(grids.float(), *extent).detach().cpu().double().numpy()
    labels = [regions(pixels) for pixels in maps]
    cells = grids.detach().cpu().double().numpy()
    drops = _drops(side, labels)
    scores = np.stack([_scaled(*image) for image in zip(cells, labels, drops, strict=True)])
    notes = tuple(map(_turned, cells, scores, labels, side.inputs.regions))
    scaled = torch.from_numpy(scores).flatten(1).to(attribution.scores)
    return replace(attribution, scores=scaled, path=None, notes=notes, error=None, evaluations=())


def regions(scores: Pixels) -> Labels:
    """Return the number of the region of each pixel, from 1; 0 is outside of all."""
    from scipy.ndimage import gaussian_filter
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    width = _SMOOTH * math.sqrt(scores.size)
    smooth = gaussian_filter(scores, width)
    labels = np.zeros(scores.shape, int)
    largest = np.abs(smooth).max()
    for sign in (1, -1):
        height = sign * smooth
        peaks = peak_local_max(
            height,
            min_distance=max(1, round(width)),
            threshold_abs=_LOWEST_PEAK * largest,
            exclude_border=False,
        )
        if not largest or not len(peaks):
            continue

        markers = np.zeros(scores.shape, int)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1) + labels.max()
        labels += watershed(-height, markers, mask=height > _EDGE * largest)

    sums = np.bincount(labels.ravel(), weights=np.abs(scores).ravel())
    sums[0] = np.inf
    kept = np.argsort(-sums, kind="stable")[: MOST + 1]
    return np.where(np.isin(labels, kept), np.searchsorted(np.sort(kept), labels), 0)


def _drops(side: Side, labels: list[Labels]) -> list[Float[np.ndarray, " region"]]:
    """Return by how much the score falls without each region of each image."""
    from scipy.ndimage import binary_dilation

    counts = [int(image_labels.max()) for image_labels in labels]
    values = side.inputs.values
    drops = []
    margin = round(_MARGIN * math.sqrt(labels[0].size))
    for number in range(1, max(counts) + 1):
        removed = [image_labels == number for image_labels in labels]
        if margin:
            removed = [binary_dilation(mask, iterations=margin) for mask in removed]
        images = [filled_in(image, mask) for image, mask in zip(values, removed, strict=True)]
        without = side.score(side.tower.encode(replace(side.inputs, values=torch.stack(images))))
        drops.append((side.value() - without).detach().cpu().double().numpy())

    return [np.array([drop[item] for drop in drops[:count]]) for item, count in enumerate(counts)]


def _scaled(
    grid: Float[np.ndarray, "row column"], labels: Labels, drops: Float[np.ndarray, " region"]
) -> Float[np.ndarray, "row column"]:
    """Return the scores of a map, scaled in each region to a sum, and outside as all regions together."""
    cell_labels = _of_cells(labels, grid.shape).ravel()
    flat = grid.ravel()
    signs = np.sign(np.bincount(cell_labels, weights=flat, minlength=len(drops) + 1))
    signed = np.maximum(signs[cell_labels] * flat, 0)
    totals = np.bincount(cell_labels, weights=signed, minlength=len(drops) + 1)[1:]
    factors = np.divide(drops, totals, out=np.zeros(len(drops)), where=totals > 0)
    outside = np.abs(drops).sum() / totals.sum() if totals.sum() else 0.0
    return np.where(cell_labels > 0, signed * np.append(0, factors)[cell_labels], flat * outside).reshape(grid.shape)


def _of_cells(labels: Labels, shape: tuple[int, int]) -> Int[np.ndarray, "row column"]:
    """Return the number of the region at the center of each cell of a grid."""
    rows, columns = (
        ((np.arange(count) + 0.5) * size / count).astype(int) for count, size in zip(shape, labels.shape, strict=True)
    )
    return labels[rows][:, columns]


def _turned(
    grid: Float[np.ndarray, "row column"], scaled: Float[np.ndarray, "row column"], labels: Labels, region: Region
) -> tuple[str, ...]:
    """Return a note that gives the places, in pixels of the image, of regions whose sign removal changes."""
    cell_labels = _of_cells(labels, grid.shape)
    places = []
    for number in range(1, int(labels.max()) + 1):
        turned = (cell_labels == number) & (grid * scaled < 0)
        if turned.any():
            row, column = np.unravel_index(np.where(turned, np.abs(grid), -1).argmax(), grid.shape)
            across = (column + 0.5) / grid.shape[1]
            down = (row + 0.5) / grid.shape[0]
            places.append(f"({region.left + across * region.width:.0f}, {region.top + down * region.height:.0f})")

    if not places:
        return ()

    count = f"{len(places)} of {labels.max()} regions"
    return (f"removal changed the sign of {count}, at {', '.join(places)} in the image",)
