"""The maps that are put to the test: raw, signed scores of both sides of every pair."""

from collections.abc import Callable, Sequence

import numpy as np

from nibt.data.pair import Pair
from nibt.engine.batches import batch_indices, sides
from nibt.errors import Unsupported
from nibt.evaluation.maps import MethodSpec
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.types import Modality

Scores = dict[Modality, list[np.ndarray]]


def explained(
    model: Model, pairs: Sequence[Pair], asked: MethodSpec, seed: int, batch_size: int, on_done: Callable[[int], None]
) -> Scores:
    """For each pair the scores of the grid (rows x columns), and of the tokens of words in their order, as float32.

    Raises:
        Unsupported: a map is not finite, or the model lacks what the method needs.

    """
    question = asked.question(model, seed)
    found: dict[Modality, dict[int, np.ndarray]] = {side: {} for side in SIDES}
    done = 0
    for indices in batch_indices(question, pairs, batch_size):
        both = sides(question, [pairs[index] for index in indices])
        for side, seen in zip(question.places, both, strict=True):
            answer = question.methods[side](seen).to("cpu")
            for row, index in enumerate(indices):
                one = answer[row]
                scores = one.grid if side == "image" else one.scores[one.units.explained.cpu()]  # pyright: ignore
                found[side][index] = scores.detach().numpy()
        done += len(indices)
        on_done(done)
    if not all(np.isfinite(one).all() for of_side in found.values() for one in of_side.values()):
        raise Unsupported(f"{asked} gives maps that are not finite here: leave it out, or use another variant of it")
    return {side: [of_side[index] for index in range(len(pairs))] for side, of_side in found.items()}
