"""The effects of parts by intervention: their cells are exchanged between images, and the model is asked again.

All similarities are with the caption of the image. With all of its cells exchanged for those of another image, an image
loses its whole advantage over that image. The loss by the cells of a part alone, as a share of that, says how far the
part is needed. The gain of the other image by these cells alone says how far the part is sufficient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float

from nibt.data.images import ImageInput, Region
from nibt.data.pair import Pair
from nibt.engine.encode import encode
from nibt.errors import BadInput
from nibt.evaluation.cells import with_cells
from nibt.evaluation.donors import donors
from nibt.evaluation.finished import FinishedWork
from nibt.evaluation.statistics import NOTHING, Interval, ratio_of_means
from nibt.models.base import Model
from nibt.results.parts import Effect

_REACH = (-2.0, 3.0)  # of a share: an exchange may also raise the similarity, or lower it below the other image's
_TOGETHER = 256  # images that are in memory together, with their changed versions


@dataclass(frozen=True, eq=False)
class Losses:
    """What images lose by the exchange of some cells.

    Attributes:
        by_cells: The similarity that each image loses if the cells are exchanged.
        by_rest: The similarity that it loses if all other cells are.
        by_all: The similarity that it loses if all cells are.
        changes: The embedding of each image minus that with the cells exchanged; None if images have several vectors.
    """

    by_cells: Float[np.ndarray, " image"]
    by_rest: Float[np.ndarray, " image"]
    by_all: Float[np.ndarray, " image"]
    changes: Float[np.ndarray, "image dim"] | None

    @property
    def gains(self) -> Float[np.ndarray, " image"]:
        """The similarity that the other image gains by the cells."""
        return self.by_all - self.by_rest


def losses(
    model: Model,
    pairs: Sequence[Pair],
    donors: Sequence[int],
    regions: Sequence[Region],
    grids: Mapping[int, np.ndarray],
) -> Losses:
    """Exchange cells of images for those of other images, and measure the similarities.

    Args:
        model: The model.
        pairs: The pairs.
        donors: For each pair, the position of the pair with the other image.
        regions: The part of each image that the grid covers.
        grids: For some pairs, by their positions, whether each cell is exchanged.
    """
    return losses_of_choices(model, pairs, donors, regions, [grids])[0]


def losses_with_random(
    model: Model,
    pairs: Sequence[Pair],
    donors: Sequence[int],
    regions: Sequence[Region],
    grids: Mapping[int, np.ndarray],
    draws: np.random.Generator,
    finished: FinishedWork,
) -> tuple[Losses, Losses]:
    """Return what ``losses`` returns for cells, and for as many random cells; the numbers are kept as finished work."""
    choices = [grids, random_cells(grids, draws)]

    def computed() -> np.ndarray:
        of_cells, of_random = losses_of_choices(model, pairs, donors, regions, choices)
        columns = [of_cells.by_cells, of_cells.by_rest, of_random.by_cells, of_random.by_rest, of_cells.by_all]
        changes = of_cells.changes
        return np.column_stack(columns if changes is None else [*columns, changes])

    exchanges = [(item, donors[item], *(grid[item].tobytes() for grid in choices)) for item in grids]
    numbers = finished.numbers(f"losses {sha256(repr(exchanges).encode()).hexdigest()}", computed)
    by_cells, by_rest, by_random, by_rest_of_random, by_all = numbers[:, :5].T
    changes = numbers[:, 5:] if numbers.shape[1] > 5 else None
    return Losses(by_cells, by_rest, by_all, changes), Losses(by_random, by_rest_of_random, by_all, None)


@torch.no_grad()
def losses_of_choices(
    model: Model,
    pairs: Sequence[Pair],
    donors: Sequence[int],
    regions: Sequence[Region],
    choices: Sequence[Mapping[int, np.ndarray]],
) -> list[Losses]:
    """Return what ``losses`` returns for each choice of cells of the same images.

    The images as they are, and with all cells exchanged, go through the model once for all choices.
    """
    items = list(choices[0])
    versions = 2 * len(choices) + 2
    together = max(1, _TOGETHER // versions)
    lost: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    for first in range(0, len(items), together):
        batch = items[first : first + together]
        images: list[ImageInput] = []
        for item in batch:
            image = pairs[item].image
            donor = pairs[donors[item]].image
            masks = [mask for grids in choices for mask in (grids[item], ~grids[item])]
            for is_exchanged in (*masks, np.ones_like(masks[0])):
                images.append(with_cells(image, donor, regions[item], is_exchanged))
            images.append(image)

        of_images = encode(model.image, images).float()
        of_captions = encode(model.text, [pairs[item].caption for item in batch]).float()
        values = model.similarity(of_images, of_captions.repeat_interleave(versions, 0)).cpu().double().numpy()
        values = values.reshape(len(batch), versions)
        lost.append(values[:, -1:] - values[:, :-1])
        if of_images.ndim == 2:
            vectors = of_images.unflatten(0, (len(batch), versions)).cpu().double().numpy()
            changes.append(vectors[:, -1:] - vectors[:, : 2 * len(choices) : 2])

    joined = np.concatenate(lost) if lost else np.empty((0, versions - 1))
    of_choices = np.concatenate(changes) if changes else None
    return [
        Losses(
            by_cells=joined[:, 2 * number],
            by_rest=joined[:, 2 * number + 1],
            by_all=joined[:, -1],
            changes=None if of_choices is None else of_choices[:, number],
        )
        for number in range(len(choices))
    ]


def share(parts: Float[np.ndarray, " image"], wholes: Float[np.ndarray, " image"]) -> Interval:
    """Return the sum of parts as a share of the sum of wholes, with its interval over images.

    It is unknown for fewer than two images, if the sum of the wholes is not positive, and if the share is one that
    cannot be, since the sum of the wholes is nearly 0.
    """
    if len(parts) < 2 or wholes.mean() <= 1e-6:
        return NOTHING

    value = ratio_of_means(parts, wholes, _REACH)
    return value if value.low <= value.mean <= value.high else NOTHING


def effects(of_part: Losses, of_random: Losses) -> tuple[Effect | None, Effect | None]:
    """Return how far a part is needed, and how far it is sufficient; None if it is unknown.

    Args:
        of_part: What images lose by the cells of the part.
        of_random: What they lose by as many random cells.
    """
    needed = _effect(of_part.by_cells, of_random.by_cells, of_part.by_all)
    sufficient = _effect(of_part.gains, of_random.gains, of_part.by_all)
    return needed, sufficient


def _effect(of_part: np.ndarray, of_random: np.ndarray, wholes: np.ndarray) -> Effect | None:
    value = share(of_part, wholes)
    beyond = share(of_part - of_random, wholes)
    if not (value.has_ends and beyond.has_ends):
        return None
    return Effect(*value, *beyond, count=len(of_part))


def random_cells(grids: Mapping[int, np.ndarray], draws: np.random.Generator) -> dict[int, np.ndarray]:
    """Return for each grid another one with as many random cells."""
    return {item: draws.permutation(grid.ravel()).reshape(grid.shape) for item, grid in grids.items()}


def donors_of(pairs: Sequence[Pair], caller: str = "parts", exchanged: str = "cells") -> list[int]:
    """Return for each pair the position of the next one with another image and, if possible, another label.

    Pairs without a label have their caption as one. Errors state the caller and what it exchanges.
    """
    noun = "pair" if len(pairs) == 1 else "pairs"
    places = donors(
        pairs,
        lambda pair: pair.image.digest,
        lambda pair, other: label_of(pair) == label_of(other),
        f"{caller} needs at least two different images (got {len(pairs)} {noun}): {exchanged} are exchanged "
        "between them",
    )
    labels = [label_of(pair) for pair in pairs]
    if len(set(labels)) < 2:
        raise BadInput(
            f"{caller} needs images with at least two different labels or captions (got only {labels[0]!r:.60}): an "
            f"exchange of {exchanged} with a pair of the same label shows nothing"
        )
    return places


def label_of(pair: Pair) -> str:
    """Return the label of a pair; without one, its caption."""
    return pair.caption if pair.label is None else pair.labels[pair.label]
