"""Groups of cells that are alike, of which each is a part."""

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
        on_objects: Whether the cells show named objects; None if this is unknown.
    """

    chosen: np.ndarray
    center: np.ndarray
    reach: float
    stability: float
    on_objects: bool | None


def grouped(cells: Cells, objects: Sequence[np.ndarray] | None, count: int, seed: int) -> list[Group]:
    """Cluster cells by their states: with masks, those beside the objects apart from those on them.

    The number of clusters is divided by the scores of both kinds.
    """
    is_object = (
        None
        if objects is None
        else np.array([objects[item].flat[place] for item, place in zip(cells.images, cells.places, strict=True)])
    )
    kinds = [np.ones(len(cells.images), bool)] if is_object is None else [~is_object, is_object]
    kinds = [kind for kind in kinds if kind.any()]
    counts = [count]
    if len(kinds) == 2:
        beside = float(cells.weights[kinds[0]].sum() / cells.weights.sum())
        first = min(max(1, round(count * beside)), max(1, count - 1))
        counts = [first, max(1, count - first)]

    groups = []
    for kind, number in zip(kinds, counts, strict=True):
        places = np.flatnonzero(kind)
        clusters = clustered(cells.points[places], cells.weights[places], cells.images[places], number, seed)
        for cluster, (center, stability) in enumerate(zip(clusters.centers, clusters.stability, strict=True)):
            chosen = places[clusters.members == cluster]
            if len(chosen):
                distances = np.sqrt(squared_distances(cells.points[chosen], center[None])[:, 0])
                reach = float(np.quantile(distances, _INSIDE))
                on_objects = None if is_object is None else bool(is_object[chosen[0]])
                groups.append(Group(chosen, center, reach, float(stability), on_objects))

    return groups


def object_cells(pairs: Sequence[Pair], regions: Sequence[Region], shape: tuple[int, int]) -> list[np.ndarray] | None:
    """Return whether each cell of each image shows a named object; None if no masks or boxes are known."""
    if not any(named_areas(pair) for pair in pairs):
        return None
    return [shown_objects(pair, region, shape) for pair, region in zip(pairs, regions, strict=True)]


def shown_objects(pair: Pair, region: Region, shape: tuple[int, int]) -> np.ndarray:
    """Return whether each cell of an image shows an object that the caption names."""
    return cells_with(seen_mask(pair, named_areas(pair), region), shape)


def named_areas(pair: Pair) -> list[Object]:
    """Return the objects with a mask or a box that the caption names."""
    return [obj for obj in pair.objects if obj.spans and (obj.mask is not None or obj.box is not None)]
