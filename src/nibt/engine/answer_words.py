"""The words of explained answers: the scores of each source, and what they miss of its change."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import cells_of
from nibt.engine.forced_answers import ForcedAnswer, Probabilities
from nibt.models._answers import AnswerTower
from nibt.results.answer import AnswerWord
from nibt.results.attribution import Attribution
from nibt.types import SOURCES, Source


class SourceScores(NamedTuple):
    """The scores of the units of one source, that of other tokens, and the value without the source, for one word."""

    units: Float[Tensor, " unit"]
    special: float
    without: float


def source_scores(side: Side, attribution: Attribution) -> list[SourceScores]:
    """Return the scores of one source for each word of a batch."""
    path, cells = attribution.path, cells_of(attribution.units).count
    assert isinstance(side.tower, AnswerTower)
    assert side.inputs.words is not None
    with torch.no_grad():
        without = side.score(side.blank()).tolist()
    results = []
    for row, scores in enumerate(attribution.scores.float().cpu()):
        kept = scores[:cells]
        if "image" not in side.tower.narrowed:
            words = [scores[cells:][list(word.tokens)].sum() for word in side.inputs.words.words[row]]
            kept = torch.stack(words) if words else kept[:0]
        special = 0.0 if path is None else float(path.sum[row] + path.special_tokens[row] - kept.sum())
        results.append(SourceScores(kept, special, without[row]))
    return results


def answer_words(
    forced: ForcedAnswer,
    numbers: Sequence[int],
    explained: Mapping[Source, tuple[Side, Attribution]],
    at_blank: Sequence[float],
    states: Probabilities,
) -> list[AnswerWord]:
    """Return the words of a batch with their scores."""
    side, attribution = next(iter(explained.values()))
    values, grid, words = side.value().tolist(), cells_of(attribution.units), []
    by_source = {source: source_scores(*of_source) for source, of_source in explained.items()}
    for row, number in enumerate(numbers):
        scores = {source: of_words[row] for source, of_words in by_source.items()}
        word = forced.answer.words[number]
        empty = {"image": grid.count, "prompt": len(forced.prompt_words), "earlier": number}
        units = {source: scores[source].units if source in scores else torch.zeros(empty[source]) for source in SOURCES}
        words.append(
            AnswerWord(
                word.text,
                word.tokens,
                states.image[number],
                states.blank[number],
                states.elsewhere[number],
                values[row],
                {source: of_source.without for source, of_source in scores.items()},
                at_blank[row],
                grid.unfold(units["image"]),
                units["prompt"],
                units["earlier"],
                sum(of_source.special for of_source in scores.values()),
            )
        )
    return words
