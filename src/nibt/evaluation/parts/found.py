"""The parts of evidence of maps that are computed already: those of ``nibt.parts``, of a job, or of an audit."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from nibt.data.pair import Pair
from nibt.evaluation.finished import FinishedWork
from nibt.evaluation.maps import Map
from nibt.evaluation.parts.evidence import Cells, evidence_cells
from nibt.evaluation.parts.groups import grouped, named_areas, object_cells, unused_areas
from nibt.evaluation.parts.measured import measured, to_float32
from nibt.evaluation.parts.names import everyday_nouns
from nibt.evaluation.parts.notes import shared_notes
from nibt.models.base import Model
from nibt.records import JsonObject
from nibt.results.parts import Part, Parts

MOST_CLUSTERS = 12
"""The default number of clusters of many pairs."""
PAIRS_OF_A_CLUSTER = 10
"""Of fewer pairs, there is by default one cluster for so many: a part needs images for its effect to be known."""
DEPTH = 2 / 3
"""The default layer, as a share of the depth of the tower."""
STEPS = ("hidden states", "clusters", "texts")
"""The steps before the effect of each part."""


def default_count(pairs: int) -> int:
    """Return the default number of clusters of so many pairs: at least one on the objects, and one beside them."""
    return min(MOST_CLUSTERS, max(2, pairs // PAIRS_OF_A_CLUSTER))


def found_parts(
    model: Model,
    pairs: Sequence[Pair],
    image_maps: Sequence[Map],
    method: str,
    *,
    layer: int,
    count: int,
    texts: Sequence[str] | None,
    seed: int,
    batch_size: int,
    data: JsonObject,
    versions: Mapping[str, str],
    finished: FinishedWork,
    on_step: Callable[[str], None] = lambda _: None,
) -> Parts:
    """Return the parts of maps.

    Args:
        model: The model.
        pairs: The pairs.
        image_maps: The map of each image.
        method: The method of the maps.
        layer: The layer of the image tower whose hidden states describe cells.
        count: The number of clusters.
        texts: The texts that parts are named by; None means the everyday nouns that the model knows.
        seed: The seed of all random draws.
        batch_size: The largest number of images that go through the model together.
        data: The origin of the pairs.
        versions: The versions of packages.
        finished: The work that is kept.
        on_step: Called when a step begins.

    Raises:
        BadInput: No image has a positive score, or images have grids of several sizes.
        BadOption: The layer has another grid than the maps.
    """
    started = time.perf_counter()
    on_step(STEPS[0])
    cells = evidence_cells(model, [pair.image for pair in pairs], image_maps, layer, batch_size, method)
    objects = object_cells(pairs, cells.regions, cells.shape)
    on_step(STEPS[1])
    groups = grouped(cells, objects, count, seed)
    on_step(STEPS[2])
    texts = everyday_nouns(model) if texts is None else texts

    def on_part(number: int) -> None:
        on_step(f"effect of part {number + 1}")

    found = measured(model, pairs, cells, layer, objects, groups, texts, seed, batch_size, finished, on_part)
    return Parts(
        model=model.record(),
        data=data,
        method=method,
        layer=layer,
        grid=cells.shape,
        seed=seed,
        count=count,
        seconds=time.perf_counter() - started,
        versions=versions,
        kept=float(cells.weights.sum()) / len(np.unique(cells.images)),
        means=to_float32(cells.means),
        deviations=to_float32(cells.deviations),
        parts=tuple(found),
        notes=tuple(_notes(pairs, cells, found, count)),
    )


def _notes(pairs: Sequence[Pair], cells: Cells, found: Sequence[Part], count: int) -> Iterator[str]:
    """Yield warnings about the data and the parts."""
    masks = [bool(named_areas(pair)) for pair in pairs]
    if not any(masks):
        yield from unused_areas(pairs)
        yield "no masks or boxes of named objects are known, so no part has a verdict: look at the gallery"
    elif not all(masks):
        yield (
            f"{len(masks) - sum(masks)} of {len(masks)} images have no mask or box of an object that the caption "
            "names, so their parts have no verdict: look at the gallery"
        )

    if len(found) < count:
        yield f"there are {len(found)} parts in place of {count}, since too few cells differ: give more images"

    silent = len(pairs) - len(np.unique(cells.images))
    yield from shared_notes(found, silent, len(pairs), "images")

    unknown = sum(part.needed is None for part in found)
    if unknown:
        yield (
            f"the effect of {unknown} of {len(found)} parts is unknown: too few images have them, or these "
            "images hardly lose similarity if everything is exchanged, as with captions that the model does not know"
        )
