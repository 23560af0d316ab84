"""The share of the similarity that parts decide, by exchange of their cells."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nibt.data.images import Region
from nibt.data.pair import Pair, as_list, image_text_pairs
from nibt.errors import BadInput, BadOption
from nibt.evaluation.parts.effects import donors_of, losses, share
from nibt.evaluation.parts.groups import shown_objects
from nibt.evaluation.parts.space import Space, located
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.options import BatchSize, parsed
from nibt.results.parts import Part, Parts, UsedShare, read_parts
from nibt.torch_modes import plain_torch


@plain_torch()
def used_share(
    model: ModelSource,
    pairs: Sequence[Pair | tuple[Any, ...]],
    parts: Parts | str | Path,
    numbers: int | Sequence[int] | None = None,
    *,
    parts_model: ModelSource | None = None,
    batch_size: int = 16,
) -> UsedShare:
    """Compute the share of the similarity that parts decide, by exchanging their cells between images.

    In each image, the parts are completed: all cells that are nearer to a part's center than 90 % of its own cells, and
    to no other center, are exchanged, also those without a score. Cells that show a named object stay, where masks or
    boxes are known. The share is what images lose by that, relative to the sum of that and what they lose if all other
    cells are exchanged.

    To compare two models, such as one before and one after mending, exchange the same cells for both: the parts of the
    first one, which is then ``parts_model``.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and its right caption, or tuples of both; also others than those the parts are from.
        parts: The parts, or the path of their JSON file.
        numbers: The numbers of the parts whose cells are exchanged together. None means those with the mark
            ``must not``; without any, all shortcuts that do not have the mark ``may``.
        parts_model: The model whose parts these are; None means ``model``.
        batch_size: The largest number of images that go through the model together.

    Returns:
        The share with its 95 % interval over images.

    Raises:
        BadInput: The parts are of another model, all images or all captions are the same, a part is an object, no image
            has the parts, or the model does not prefer the captions of the images.
        BadOption: There is no part with that number, or no part is a shortcut or marked.
    """
    parts = read_parts(parts, "used_share")
    pairs = image_text_pairs(pairs, "used_share")
    batch_size = parsed("batch_size", batch_size, BatchSize)
    chosen = chosen_parts(parts, numbers)
    donors = donors_of(pairs, "used_share")
    model = load_model(model).renewed()
    finder = model if parts_model is None else load_model(parts_model).renewed()
    check_model(parts, finder, "give the model of the parts as parts_model")

    places = [part.number - 1 for part in chosen]
    grids: dict[int, np.ndarray] = {}
    regions: dict[int, Region] = {}
    for item, numbers_of_cells, region in located(finder, [pair.image for pair in pairs], Space.of(parts), batch_size):
        is_part = np.isin(numbers_of_cells, places) & ~shown_objects(pairs[item], region, parts.grid)
        regions[item] = region
        if is_part.any():
            grids[item] = is_part

    if not grids:
        raise BadInput(
            f"none of the {len(pairs)} images has {named_parts(chosen)}: give images like those that the parts are from"
        )

    lost = losses(model, pairs, donors, [regions[item] for item in range(len(pairs))], dict(sorted(grids.items())))
    value = share(lost.by_cells, lost.by_cells + lost.by_rest)
    if not value.has_ends:
        raise BadInput(
            f"the share of {named_parts(chosen)} is unknown from {len(grids)} of {len(pairs)} images: it needs at "
            "least two images that have them, of which the model prefers the captions to those of other images"
        )

    cells = float(np.mean([grid.mean() for grid in grids.values()]))
    return UsedShare(*value, count=len(grids), pairs=len(pairs), cells=cells)


def chosen_parts(parts: Parts, numbers: int | Sequence[int] | None) -> list[Part]:
    """Return the parts whose cells are exchanged."""
    if numbers is None:
        numbers = [part.number for part in parts.unwanted]
        if not numbers:
            raise BadOption(
                "no part is a shortcut or has the mark 'must not': mark parts on the page, or give the numbers of the "
                "parts to exchange"
            )

    of_numbers = {part.number: part for part in map(parts.part, _listed(numbers))}
    chosen = list(of_numbers.values())
    if not chosen:
        raise BadOption("numbers must have at least one part (got none)")

    for part in chosen:
        if part.is_on_objects:  # also in too few images for a verdict
            raise BadInput(
                f"part {part.number} is a named object ({part.on_objects:.0%} of its score is on masks or boxes), "
                "which the model should use, and would learn to ignore if it were trained without: give parts beside "
                "the objects"
            )

    return chosen


def _listed(numbers: Any) -> list[Any]:
    """Return numbers as a list, also those of a range, a set, an array or a tensor."""
    if isinstance(numbers, np.ndarray | Tensor):
        return as_list(numbers.tolist())
    return list(numbers) if isinstance(numbers, range | Set) else as_list(numbers)


def check_model(parts: Parts, model: Model, remedy: str) -> None:
    """Check that parts are of a model: states of another one cannot be compared with theirs."""
    weights = parts.model["weights_hash"]
    if model.weights_hash != weights:
        raise BadInput(
            f"the parts are of a model with the weights {weights}, layer {parts.layer} ({model.id} has "
            f"{model.weights_hash}): {remedy}, or find the parts of this model"
        )


def named_parts(chosen: Sequence[Part]) -> str:
    """Return the numbers of parts in words."""
    numbers = ", ".join(str(part.number) for part in chosen)
    return f"part {numbers}" if len(chosen) == 1 else f"the parts {numbers}"
