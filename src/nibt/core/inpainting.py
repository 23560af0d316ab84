"""Removed parts of images, filled in from the pixels around them."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

_FINEST = 128  # pixels along an axis
_NEIGHBORS = {
    (down, across): 1 / 6 if 0 in (down, across) else 1 / 12
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if (down, across) != (0, 0)
}


def interpolated(
    image: Float[np.ndarray, "channel height width"], removed: Bool[np.ndarray, "height width"]
) -> Float[np.ndarray, "channel pixel"]:
    """Return the values of removed pixels, each of which is the weighted mean of its neighbors inside the image.

    It is the imputation of ROAD (Rong et al., ICML 2022).
    """
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    rows, columns = np.nonzero(removed)
    if removed.all() or not len(rows):
        return np.zeros((len(image), len(rows)))

    number = np.full(removed.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    total = np.zeros(len(rows))
    known_sums = np.zeros((len(rows), len(image)))
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for (down, across), weight in _NEIGHBORS.items():
        row = rows + down
        column = columns + across
        inside = (row >= 0) & (row < removed.shape[0]) & (column >= 0) & (column < removed.shape[1])
        total += weight * inside
        place = np.flatnonzero(inside)
        row = row[inside]
        column = column[inside]
        unknown = removed[row, column]
        known_sums[place[~unknown]] += weight * image[:, row[~unknown], column[~unknown]].T
        entries.append((place[unknown], number[row[unknown], column[unknown]], np.full(unknown.sum(), -weight)))

    diagonal = np.arange(len(rows))
    first, second, values = (np.concatenate(parts) for parts in zip((diagonal, diagonal, total), *entries, strict=True))
    system = csc_matrix((values, (first, second)), shape=(len(rows), len(rows)))
    # the system is symmetric and positive definite, so it needs no pivoting
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return factors.solve(known_sums).T


def filled_in(
    image: Float[Tensor, "channel height width"], removed: Bool[np.ndarray, "height width"]
) -> Float[Tensor, "channel height width"]:
    """Return a copy of an image whose removed pixels are filled in from those around them.

    In images of more than ``_FINEST`` pixels along an axis, blocks of pixels are filled in, and resized: what
    is filled in is smooth, and the time grows faster than the number of pixels.
    """
    kept = torch.from_numpy(~removed).to(image.device)
    block = -(-max(removed.shape) // _FINEST)  # what is filled in is smooth, and the time grows faster than the pixels
    if block == 1:
        filled = image.detach().cpu().double().numpy().copy()
        filled[:, removed] = interpolated(filled, removed)
        return torch.from_numpy(filled).to(image)

    share = F.avg_pool2d(kept[None].double(), block, ceil_mode=True)
    means = F.avg_pool2d(torch.where(kept, image.detach().double(), 0.0), block, ceil_mode=True) / share.clamp_min(1e-9)
    coarse = filled_in(means, (share[0] < 0.5).cpu().numpy())
    smooth = F.interpolate(coarse[None], scale_factor=block, mode="bilinear")[0, :, : image.shape[1], : image.shape[2]]
    return torch.where(kept, image, smooth.to(image))
