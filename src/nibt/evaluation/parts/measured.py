"""The description of parts: their effects, their names and their galleries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nibt.data.pair import Pair
from nibt.evaluation.finished import FinishedWork
from nibt.evaluation.parts.effects import donors_of, effects, losses_with_random
from nibt.evaluation.parts.evidence import Cells
from nibt.evaluation.parts.gallery import gallery
from nibt.evaluation.parts.groups import Group
from nibt.evaluation.parts.names import directions, name_of
from nibt.evaluation.parts.space import Space, located
from nibt.models.base import Model
from nibt.results.parts import LabelOfPart, Part, rank

_MOST_IMAGES = 200  # of a part whose effect is measured
_MOST_LABELS = 5


def measured(
    model: Model,
    pairs: Sequence[Pair],
    cells: Cells,
    layer: int,
    objects: Sequence[np.ndarray | None] | None,
    groups: Sequence[Group],
    texts: Sequence[str],
    seed: int,
    batch_size: int,
    finished: FinishedWork,
    on_part: Callable[[int], None],
) -> list[Part]:
    """Return the parts with their effects and names, in the order of ``Parts``.

    Args:
        model: The model.
        pairs: The pairs.
        cells: The cells that carry their scores.
        layer: The layer of their states.
        objects: Whether each cell of each image shows a named object; None for what is unknown.
        groups: The cells of each part.
        texts: What parts are named by.
        seed: The seed of all random draws.
        batch_size: The largest number of images whose states are computed together.
        finished: The work that is kept.
        on_part: Called with the number of parts that are done.
    """
    donors = donors_of(pairs)
    vectors = directions(model, texts) if len(texts) > 1 and model.item_ndim == 1 else None
    space = Space(
        layer,
        cells.shape,
        cells.means,
        cells.deviations,
        np.stack([group.center for group in groups]),
        np.array([group.reach for group in groups]),
    )
    images = [pair.image for pair in pairs]
    part_numbers = {item: numbers for item, numbers, _ in located(model, images, space, batch_size)}

    found: list[Part] = []
    for number, group in enumerate(groups):
        on_part(number)
        completed = _completed(cells, group, number, part_numbers, objects)
        draws = np.random.default_rng((seed, number))
        part, changes = part_of(model, pairs, donors, cells, group, completed, draws, finished)

        if vectors is not None and changes:
            captions = [pairs[item].caption for item in changes] if group.on_objects is False else []
            name, nearest = name_of(np.stack([*changes.values()]), texts, vectors, captions)
            part = replace(part, name=name, nearest=nearest)

        found.append(part)

    found.sort(key=lambda part: rank(part.verdict, part.share))
    return [replace(part, number=number) for number, part in enumerate(found, 1)]


def _completed(
    cells: Cells,
    group: Group,
    number: int,
    part_numbers: Mapping[int, np.ndarray],
    objects: Sequence[np.ndarray | None] | None,
) -> dict[int, np.ndarray]:
    """Return the cells of a part in each image that has some of its score, with those that look like it.

    A part that is not on named objects is not completed by cells of these.
    """
    completed = {}
    for item, weights in cells.of_images(group.chosen).items():
        grid = (weights > 0) | (part_numbers[item] == number)
        shown = None if objects is None else objects[item]
        if shown is not None and not group.on_objects:
            grid &= ~shown
        completed[item] = grid

    return completed


def part_of(
    model: Model,
    pairs: Sequence[Pair],
    donors: Sequence[int],
    cells: Cells,
    group: Group,
    completed: Mapping[int, np.ndarray],
    draws: np.random.Generator,
    finished: FinishedWork,
) -> tuple[Part, dict[int, np.ndarray]]:
    """Return a part without a number and a name, and what its cells add to the embedding of each image.

    Its effect is that of the ``completed`` part of each image, also on cells without a score.
    """
    weights = cells.weights[group.chosen]
    scores = cells.of_images(group.chosen)
    grids = {item: of_image > 0 for item, of_image in scores.items()}
    shares = {item: float(of_image.sum()) for item, of_image in scores.items()}

    drawn = sorted(draws.permutation(list(grids))[:_MOST_IMAGES].tolist())
    exchanged = {item: completed[item] for item in drawn}
    of_part, of_random = losses_with_random(model, pairs, donors, cells.regions, exchanged, draws, finished)
    needed, sufficient = effects(of_part, of_random)

    part = Part(
        number=1,
        share=float(weights.sum() / cells.weights.sum()),
        images=len(grids),
        size=float(np.mean([grid.mean() for grid in completed.values()])),
        stability=group.stability,
        on_objects=None if group.on_objects is None else float(group.on_objects),
        place=to_float32(np.mean([*grids.values()], axis=0)),
        needed=needed,
        sufficient=sufficient,
        name="",
        nearest=(),
        labels=_labels(pairs, shares),
        gallery=gallery(pairs, grids, shares, cells.regions, draws),
        center=to_float32(group.center),
        reach=group.reach,
    )
    changes = {} if of_part.changes is None else dict(zip(drawn, of_part.changes, strict=True))
    return part, changes


def _labels(pairs: Sequence[Pair], shares: Mapping[int, float]) -> tuple[LabelOfPart, ...]:
    """Return the labels with the largest shares of a part."""
    by_label: dict[str, list[float]] = {}
    for item, of_image in shares.items():
        pair = pairs[item]
        if pair.label is not None:
            by_label.setdefault(pair.labels[pair.label], []).append(of_image)

    total = sum(shares.values())
    rows = [LabelOfPart(label, sum(values) / total, len(values)) for label, values in by_label.items()]
    return tuple(sorted(rows, key=lambda row: (-row.share, row.label))[:_MOST_LABELS])


def to_float32(values: np.ndarray) -> Tensor:
    """Return values as a tensor of results."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
