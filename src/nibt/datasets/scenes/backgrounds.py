"""Backgrounds of scenes, drawn with integer arithmetic so that they have the same bits on every machine."""

from collections.abc import Callable

import numpy as np

from nibt.datasets._draws import Draws

_DIRECTIONS = ((1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1))


def plain(draws: Draws, side: int) -> np.ndarray:
    """Draw a plain background of one color."""
    return np.broadcast_to(draws.color(), (side, side, 3)).copy()


def gradient(draws: Draws, side: int) -> np.ndarray:
    """Draw a gradient between two colors, in one of eight directions."""
    first, last = draws.color().astype(np.int64), draws.color().astype(np.int64)
    across, down = draws.one_of(_DIRECTIONS)
    places = across * np.arange(side)[None, :] + down * np.arange(side)[:, None]
    share = ((places - places.min()) * 256 // (places.max() - places.min()))[..., None]
    return ((first * (256 - share) + last * share) // 256).astype(np.uint8)


def noise(draws: Draws, side: int) -> np.ndarray:
    """Draw smooth coarse noise with finer noise on it."""
    coarse = _resized(draws.bytes(draws.between(3, 5), 3), draws, side)
    fine = _resized(draws.bytes(draws.between(8, 16), 3), draws, side)
    return ((3 * coarse + fine) // 4).astype(np.uint8)


def _resized(first: np.ndarray, draws: Draws, side: int) -> np.ndarray:
    """Draw colors on a coarse grid, and resize it bilinearly. Floats with integer values are used for speed."""
    cells = len(first)
    grid = np.concatenate([first[None], draws.bytes(cells - 1, cells, 3)]).astype(np.float32)
    weights = _weights(cells, side)
    rows = (weights @ grid.reshape(cells, -1)).reshape(side, cells, 3)
    return np.einsum("xc,ycd->yxd", weights, rows, optimize=True).astype(np.int64) // 256


def _weights(cells: int, side: int) -> np.ndarray:
    """Return the bilinear weights of ``side`` pixels on ``cells`` points, in sixteenths."""
    places = np.arange(side) * (cells - 1) * 16 // (side - 1)
    below = np.minimum(places // 16, cells - 2)
    share = places - below * 16
    weights = np.zeros((side, cells), np.float32)
    weights[np.arange(side), below] = 16 - share
    weights[np.arange(side), below + 1] = share
    return weights


def texture(draws: Draws, side: int) -> np.ndarray:
    """Draw stripes, checks or dots in two colors, with grain."""
    colors = np.stack([draws.color(), draws.color()]).astype(np.int64)
    colors[1] = (2 * colors[0] + colors[1]) // 3  # with less contrast, objects remain visible
    period, pattern = draws.between(6, 20), draws.below(4)
    across, down = np.arange(side)[None, :], np.arange(side)[:, None]
    if pattern == 0:
        color = (across + draws.between(-2, 2) * down) // (period // 2) % 2
    elif pattern == 1:
        color = (down + draws.between(-1, 1) * across) // (period // 2) % 2
    elif pattern == 2:
        color = (across // period + down // period) % 2
    else:
        color = ((across % period - period // 2) ** 2 + (down % period - period // 2) ** 2) < period * period // 9
    grain = draws.bytes(side, side, 1).astype(np.int64) // 11 - 11
    return (colors[np.broadcast_to(color, (side, side)).astype(np.int64)] + grain).clip(0, 255).astype(np.uint8)


BACKGROUNDS: dict[str, Callable[[Draws, int], np.ndarray]] = {
    "plain": plain,
    "gradient": gradient,
    "noise": noise,
    "texture": texture,
}
