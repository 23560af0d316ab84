"""The share of the highest pixels of a map that lie in a mask."""

from nibt.metrics.base import PixelMap, PixelMask


def share_inside(scores: PixelMap, mask: PixelMask, count: int) -> float:
    """Return the share of the ``count`` pixels with the highest scores that lie in a mask.

    Pixels with the score of the last one compete for the remaining places; each counts by its chance of a place.
    """
    values, inside = scores.flatten(), mask.flatten()
    last = values.topk(count).values[-1]
    above, equal = values > last, values == last
    places = count - int(above.sum())
    hits = float(inside[above].sum()) + places * float(inside[equal].double().mean())
    return hits / count
