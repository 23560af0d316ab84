"""The words of explained answers: the scores of each source, and what they miss of its change."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import cells_of
from nibt.engine.forced_answers import ForcedAnswer, Probabilities
from nibt.methods.base import Method
from nibt.models._answers import AnswerTower
from nibt.results.answer import AnswerWord
from nibt.results.attribution import Attribution
from nibt.types import SOURCES, PerExample, Source


class ExplainedSource(NamedTuple):
    """The scores of one source, with the agreement of the views of an image; None for one view."""

    side: Side
    attribution: Attribution
    agreement: PerExample | None = None

    @classmethod
    def of(cls, method: Method, side: Side) -> "ExplainedSource":
        """Explain a source.

        Views are other images, for which the word may be more or less likely. Their map carries the share of the sum
        in which they agree with the image itself: the smaller of the two sums over the larger one. The map of the image
        without shifts carries the rest, so that the sum is always that of the image.
        """
        blended = method(side)
        if method.views == 1 or blended.path is None:
            return cls(side, blended)
        plain = replace(method, views=1)(side)
        fine, coarse = cells_of(blended.units), cells_of(plain.units)
        of_views, of_image = blended.scores[:, : fine.count], plain.scores[:, : coarse.count]
        ratio = of_views.sum(1) / of_image.sum(1)
        agreement = torch.minimum(ratio, 1 / ratio).nan_to_num(0.0, 0.0, 0.0).clamp_min(0)
        factor = (agreement / ratio).nan_to_num(0.0, 0.0, 0.0)
        cells = fine.rows // coarse.rows
        even = coarse.unfold(of_image).repeat_interleave(cells, -2).repeat_interleave(cells, -1).flatten(1) / cells**2
        scores = factor[:, None] * of_views + (1 - agreement[:, None]) * even
        scores = torch.cat([scores, plain.scores[:, coarse.count :]], 1)
        return cls(side, replace(plain, scores=scores, units=blended.units), agreement)

    def words(self) -> "list[SourceScores]":
        """Return the scores of the source for each word of the batch."""
        attribution, side = self.attribution, self.side
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
            special = 0.0 if path is None else float(path.sum[row] - kept.sum())
            agreement = None if self.agreement is None else float(self.agreement[row])
            results.append(SourceScores(kept, special, without[row], agreement))
        return results


class SourceScores(NamedTuple):
    """The scores of the units of one source, that of other tokens, and the value without the source, for one word."""

    units: Float[Tensor, " unit"]
    special: float
    without: float
    agreement: float | None


def answer_words(
    forced: ForcedAnswer,
    numbers: Sequence[int],
    explained: Mapping[Source, ExplainedSource],
    at_blank: Sequence[float],
    states: Probabilities,
) -> list[AnswerWord]:
    """Return the words of a batch with their scores."""
    first = next(iter(explained.values()))
    with torch.no_grad():
        values = first.side.value().tolist()
    by_source = {source: each.words() for source, each in explained.items()}
    grid, words = cells_of(first.attribution.units), []
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
                scores["image"].agreement if "image" in scores else None,
            )
        )
    return words
