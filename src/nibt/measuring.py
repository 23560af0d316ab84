"""How good the maps of a method are, on pairs whose truth is known or by what the model itself does."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from nibt.errors import BadInput
from nibt.loading import load_model
from nibt.metrics.base import Metric, Trial
from nibt.models.base import Model
from nibt.pair import Pair
from nibt.pairing import mixed
from nibt.question import Contrast, Question, ask, batches
from nibt.registry import available, find
from nibt.row import Row
from nibt.sides import sides
from nibt.truth import truth
from nibt.types import Modality


def measure(
    model: Model | str | Path | nn.Module,
    pairs: Sequence[Pair],
    metrics: Sequence[str | Metric] | None = None,
    method: str = "nib",
    target: str = "cosine",
    *,
    only: Modality | None = None,
    variant: str = "default",
    against: str | Sequence[str] = (),
    templates: Sequence[str] = (),
    batch_size: int = 16,
    seed: int | None = None,
    **options: Any,
) -> list[Row]:
    """Explain pairs with a method and measure the answers: one row for each pair, side and metric.

    ``metrics`` are names or metrics with their options, all of them without it; each is taken on the sides on which
    it has a meaning, or on one (``only``). Metrics that hold a map against the truth need pairs that bring it
    (``Pair.objects``), and are NaN elsewhere. All else is as in ``explain``.

    Raises:
        BadInput: there are no pairs, or one is not of a picture and a caption.
        UnknownName: no metric, method, target, variant or option has that name.

    """
    if not pairs:
        raise BadInput("there is nothing to measure: give at least one pair")
    model = load_model(model)
    named = {(name := _name(metric)): find("metrics", name)() if isinstance(metric, str) else metric
             for metric in (available("metrics") if metrics is None else metrics)}  # fmt: skip
    question = ask(model, method, target, variant, Contrast.read(against, (), templates), None, seed, options)
    rows: list[Row] = []
    for indices in batches([model.image.group(mixed(pair, "measure").picture) for pair in pairs], batch_size):
        rows += _batch(question, named, indices, [pairs[index] for index in indices], only)
    return sorted(rows, key=lambda row: row.item)


def _name(metric: str | Metric) -> str:
    return metric if isinstance(metric, str) else type(metric).__module__.rsplit(".", 1)[-1]


def _batch(
    question: Question, metrics: dict[str, Metric], indices: list[int], pairs: list[Pair], only: Modality | None
) -> Iterator[Row]:
    image, text = sides(question, pairs)
    regions, words = image.inputs.regions, text.inputs.words
    assert words is not None
    truths = tuple(truth(pair, regions[place], words[place]) for place, pair in enumerate(pairs))
    for modality, side in zip(question.places, (image, text), strict=True):
        asked = {name: one for name, one in metrics.items() if modality in one.sides and only in (None, modality)}
        if not asked:
            continue
        trial = Trial(side, question.methods[modality](side), truths)
        for name, metric in asked.items():
            for index, value in zip(indices, metric(trial).tolist(), strict=True):
                yield Row(index, modality, name, value)
