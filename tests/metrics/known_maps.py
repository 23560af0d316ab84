"""Maps and captions for which metrics are known by hand."""

import torch
import torch.nn.functional as F

from nibt.data.ground_truth import GroundTruth
from nibt.data.units import Grid, Word, Words
from nibt.metrics.base import MetricInput
from nibt.registry import find
from nibt.results.attribution import Attribution
from tests import tiny
from tests.helpers import make_side

GRID = Grid(4, 4)


QUARTER = F.pad(torch.ones(4, 4), (0, 4, 0, 4)).bool()


def on(scores: torch.Tensor, mask: torch.Tensor | None = QUARTER, **options: object) -> MetricInput:
    """Return the input of one map of 4 x 4 cells on 8 x 8 pixels; the side does not matter."""
    answer = Attribution(scores.reshape(1, 16), GRID, torch.zeros(1), **options)  # pyright: ignore
    return MetricInput(make_side(tiny.model("clip"), "image"), answer, (GroundTruth(mask),))


def of(name: str, trial: MetricInput, **options: object) -> float:
    (value,) = find("metrics", name)(**options)(trial).tolist()
    return value


def block(rows: slice, columns: slice) -> torch.Tensor:
    scores = torch.zeros(4, 4)
    scores[rows, columns] = 1.0
    return scores


FIRST, LAST = block(slice(0, 2), slice(0, 2)), block(slice(2, 4), slice(2, 4))


def caption_input(scores: list[float], named: list[bool], absent: list[bool] | None = None) -> MetricInput:
    """Return the input of a caption, whose first word has two tokens, between a start and an end token."""
    count = len(named)
    words = Words(
        (("start", *["token"] * (count + 1), "end"),),
        (tuple(Word("word", (1, 2) if place == 0 else (place + 2,)) for place in range(count)),),
        torch.tensor([[False, *[True] * (count + 1), False]]),
    )
    rows = torch.tensor([[9.0, scores[0] - 1, 1, *scores[1:], 9]])
    known = GroundTruth(None, (), torch.tensor(named), None if absent is None else torch.tensor(absent))
    return MetricInput(make_side(tiny.model("clip"), "text"), Attribution(rows, words, torch.zeros(1)), (known,))
