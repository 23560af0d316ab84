"""From a question and pairs to answers: an explanation of a picture with a caption, a comparison of two of a kind.

Pairs that may share a batch do, and the method is asked for both sides of each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F

from nibt.data.images import ImageInput
from nibt.data.pair import Pair, SameModalityPair
from nibt.data.units import Grid, Words
from nibt.engine.batches import PreparedBatch, batch_indices, sides
from nibt.engine.mismatch import mismatches
from nibt.engine.spec import MIXED, ExplanationSpec
from nibt.models.base import Inputs
from nibt.results.attribution import Attribution
from nibt.results.comparison import Comparison
from nibt.results.explanation import Explanation
from nibt.results.part import ImageAttribution, Part, TextAttribution
from nibt.torch_modes import plain_torch

_FLAT = 1e-7  # a smaller range of scores is nothing but rounding


@plain_torch()
def answers(
    question: ExplanationSpec, pairs: Sequence[Pair | SameModalityPair], size: int, on_done: Callable[[], None]
) -> list[Explanation | Comparison]:
    """An answer for each pair, in their order; ``size`` pairs at most go through the towers together."""
    found: dict[int, Explanation | Comparison] = {}
    for indices in batch_indices(question, pairs, size):
        ready = PreparedBatch.of(question, [pairs[index] for index in indices])
        found |= dict(zip(indices, answered(question, ready), strict=True))
        for _ in indices:
            on_done()
    return [found[index] for index in range(len(pairs))]


@plain_torch()
def answered(question: ExplanationSpec, ready: PreparedBatch) -> list[Explanation | Comparison]:
    """The answers of one batch: both places are traced once, and each is held against the other."""
    return list(_answered(question, ready))


def _answered(question: ExplanationSpec, ready: PreparedBatch) -> Iterator[Explanation | Comparison]:
    both = sides(question, ready)
    maps = [question.methods[modality](side) for modality, side in zip(question.places, both, strict=True)]
    values = [side.value().tolist() for side in both]
    cosines = F.cosine_similarity(both[0].trace.embedding, both[1].trace.embedding, dim=-1).tolist()
    low = list(mismatches(*both)) if question.places == MIXED else [""] * len(cosines)  # for two of a kind: no claim
    for index, pair in enumerate(ready.pairs):
        parts = [_part(pair.items[place], side.inputs, maps[place][index], index) for place, side in enumerate(both)]
        notes = _notes(question, [side.inputs.notes[index] for side in both])
        yield _answer(
            parts[0],
            parts[1],
            similarity=cosines[index],
            score=_score_record(question, [value[index] for value in values]),
            method=question.record["method"],
            **question.facts,
            warnings=(
                *filter(None, [low[index]]),
                *question.warnings,
                *pair.notes,
                *notes,
                *_unmet(question, parts),
                *_flat(question, parts),
            ),
        )


def _answer(first: Part, second: Part, **told: Any) -> Explanation | Comparison:
    if isinstance(first, ImageAttribution) and isinstance(second, TextAttribution):
        return Explanation.of(first, second, **told)
    return Comparison(first, second, **told)


def _part(item: ImageInput | str, inputs: Inputs, answer: Attribution, index: int) -> Part:
    if isinstance(item, ImageInput):
        assert isinstance(answer.units, Grid)
        answer = replace(answer, units=answer.units.bare())
        return ImageAttribution(item.source, answer.to("cpu"), inputs.regions[index], item.size, item, item.digest)
    return TextAttribution(item, answer.to("cpu"))


def _notes(question: ExplanationSpec, notes: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """What is to be said of the inputs; of two of a kind it needs saying of which."""
    same = question.places[0] == question.places[1]
    for name, told in zip(question.names, notes, strict=True):
        yield from (f"{name}: {note}" if same else note for note in told)


def _unmet(question: ExplanationSpec, parts: Sequence[Part]) -> Iterator[str]:
    """What is to be said of sums that a tolerance asked for and that did not come to hold."""
    for name, part in zip(question.names, parts, strict=True):
        told = part.attribution.narrowing
        if told is not None and told.missed:
            yield (
                f"the gap of the {name} side, {abs(float(told.gap)):.2g}, is above the tolerance after "
                f"{int(told.steps)} nodes: the sum of its scores is not complete"
            )


def _flat(question: ExplanationSpec, parts: Sequence[Part]) -> Iterator[str]:
    """Warnings about maps that tell nothing apart."""
    for name, part in zip(question.names, parts, strict=True):
        side, units = part.attribution, part.attribution.units
        scores = side.scores[units.explained] if isinstance(units, Words) else side.scores
        if len(scores) > 1 and float(scores.max() - scores.min()) <= _FLAT:
            method = question.record["method"]["name"]
            score = float(scores[0])
            yield f"the map of the {name} side is flat: {method} gives every unit the score {score:.3g}"


def _score_record(question: ExplanationSpec, values: Sequence[float]) -> dict[str, Any]:
    """What was explained, with its value in the first place, and in each, since a target may differ there in kind."""
    names = [type(question.targets[modality]).__name__.lower() for modality in question.places]
    each = {
        place: {"target": name, "value": value}
        for place, name, value in zip(question.names, names, values, strict=True)
    }
    return {**question.record["target"], "value": values[0], **each}
