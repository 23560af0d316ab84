"""Groups of cells that are alike, of which each is a part."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nibt.data.ground_truth import seen_mask
from nibt.data.images import Region
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.evaluation.cells import cells_with
from nibt.evaluation.parts.clusters import clustered, squared_distances
from nibt.evaluation.parts.evidence import Cells

_INSIDE = 0.9  # the share of a part's cells within its reach


@dataclass(frozen=True, eq=False)
class Group:
    """The cells of one part.

    Attributes:
        chosen: The positions of its cells among all cells.
        center: The mean of their standardized states.
        reach: The distance from the center within which 90 % of them are.
        stability: The share of draws of half of the images in which the part is found.
        on_objects: Whether the cells show named objects; None if no masks or boxes of their images are known.
    """

    chosen: np.ndarray
    center: np.ndarray
    reach: float
    stability: float
    on_objects: bool | None


def grouped(cells: Cells, objects: Sequence[np.ndarray | None] | None, count: int, seed: int) -> list[Group]:
    """Cluster cells by their states: with masks, those beside the objects apart from those on them.

    Cells of images without a mask, among others that have one, are clustered apart from both: they may be on the object
    or beside it. The number of clusters is divided by the scores of these kinds.
    """
    is_object = None if objects is None else _on_objects(cells, objects)
    kinds: list[tuple[bool | None, np.ndarray]] = [(None, np.ones(len(cells.images), bool))]
    if is_object is not None:
        kinds = [(False, is_object == 0), (True, is_object == 1), (None, np.isnan(is_object))]

    kinds = [(on_objects, kind) for on_objects, kind in kinds if kind.any()]
    counts = _divided(count, [float(cells.weights[kind].sum()) for _, kind in kinds])

    groups = []
    for (on_objects, kind), number in zip(kinds, counts, strict=True):
        places = np.flatnonzero(kind)
        clusters = clustered(cells.points[places], cells.weights[places], cells.images[places], number, seed)
        for cluster, (center, stability) in enumerate(zip(clusters.centers, clusters.stability, strict=True)):
            chosen = places[clusters.members == cluster]
            if len(chosen):
                distances = np.sqrt(squared_distances(cells.points[chosen], center[None])[:, 0])
                reach = float(np.quantile(distances, _INSIDE))
                groups.append(Group(chosen, center, reach, float(stability), on_objects))

    return groups


def _on_objects(cells: Cells, objects: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return 1 for each cell that shows a named object, 0 for one that does not, and NaN if this is unknown."""
    values = []
    for item, place in zip(cells.images, cells.places, strict=True):
        shown = objects[item]
        values.append(math.nan if shown is None else float(shown.flat[place]))
    return np.array(values)


def _divided(count: int, weights: Sequence[float]) -> list[int]:
    """Divide a number of clusters among kinds of cells by their weights, with at least one for each."""
    if len(weights) == 1:
        return [count]

    most = max(1, count - len(weights) + 1)
    first = min(max(1, round(count * weights[0] / sum(weights))), most)
    return [first, *_divided(max(1, count - first), weights[1:])]


def object_cells(
    pairs: Sequence[Pair], regions: Sequence[Region], shape: tuple[int, int]
) -> list[np.ndarray | None] | None:
    """Return whether each cell of each image shows a named object.

    It is None for an image of which no mask or box of a named object is known, and None if there is none at all.
    """
    if not any(named_areas(pair) for pair in pairs):
        return None
    return [
        shown_objects(pair, region, shape) if named_areas(pair) else None
        for pair, region in zip(pairs, regions, strict=True)
    ]


def shown_objects(pair: Pair, region: Region, shape: tuple[int, int]) -> np.ndarray:
    """Return whether each cell of an image shows an object that the caption names."""
    return cells_with(seen_mask(pair, named_areas(pair), region), shape)


def named_areas(pair: Pair) -> list[Object]:
    """Return the objects with a mask or a box that the caption names."""
    return [obj for obj in pair.objects if obj.spans and obj.has_area]


def unused_areas(pairs: Sequence[Pair]) -> list[str]:
    """Return a note on images whose masks and boxes are not used, since their captions name none of the objects."""
    unnamed = [pair for pair in pairs if not named_areas(pair)]
    names = [areas[0].name for pair in unnamed if (areas := [obj for obj in pair.objects if obj.has_area])]
    if not names:
        return []

    return [
        f"the masks and boxes of {len(names)} of {len(pairs)} images are not used: their captions name none of the "
        f"objects, such as {names[0]!r:.60}; call the objects as the captions do, or give their spans"
    ]
