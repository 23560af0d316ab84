"""What the score is, and what it is when only what the map keeps is shown: what confidence drop and increase share.

``correct``: pixels are scaled by the map, stretched to [0, 1] over the units, after normalising, so that nothing is
the mean colour (or fade into a backdrop, as ``hide`` says); words as their embeddings, by position, toward the padding
token's, scores stretched over the words only, start and end whole.

``paper``: as the authors measured. A map is first stretched bilinearly over the pixels, then to [0, 1]. Of a caption
the scores of start and end tokens are stretched along and then dropped, and so are these tokens; the rest is read as
it is and with the rows of the table of embeddings scaled, where CLIP finds no end and pools at the largest id (old
configurations) or at the first token. It is there to compare with published numbers; it does not measure the caption.
"""

from dataclasses import dataclass, field, replace

import torch

from nibt.core.perturbation import masker, score_of_pixels, without_ends
from nibt.core.side import Side
from nibt.data.units import Words
from nibt.errors import BadOption, Unsupported
from nibt.metrics._hiding import PerturbationMetric
from nibt.metrics.base import MetricInput
from nibt.models.base import ImageTower
from nibt.models.clip import CLIPTextTower
from nibt.results.attribution import min_max, to_pixels
from nibt.types import PerExample, PerToken

Scores = tuple[PerExample, PerExample]


@dataclass(frozen=True)
class Confidence(PerturbationMetric):
    """``protocol``: ``correct``, or ``paper``, which hides by the mean colour only."""

    protocol: str = field(default="correct", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol not in ("correct", "paper"):
            raise BadOption(f"protocol must be correct or paper (got {self.protocol!r})")
        if self.protocol == "paper" and self.hide != "mean":
            raise BadOption(f"the protocol paper hides by the mean colour: leave hide out (got {self.hide!r})")

    def scores(self, trial: MetricInput) -> Scores:
        """The score, and the score of what is kept; measured once for all metrics of a trial that ask the same."""
        return trial.once(("confidence", self.protocol, self.hide, self.seed), lambda: self._scores(trial))

    def _scores(self, trial: MetricInput) -> Scores:
        if self.protocol == "paper":
            return _of_image(trial) if isinstance(trial.side.tower, ImageTower) else _of_caption(trial)
        kept = masker(trial.side, trial.attribution.units, smooth=True, hide=self.hide, seed=self.seed)
        return trial.side.value(), kept(trial.attribution.normalised())


def _of_image(trial: MetricInput) -> Scores:
    assert isinstance(trial.side.tower, ImageTower)
    extent = trial.side.tower.extent(trial.side.inputs)
    pixels = to_pixels(trial.attribution.grid, *extent).flatten(1)
    keep = min_max(pixels, torch.ones_like(pixels, dtype=torch.bool))
    return trial.side.value(), score_of_pixels(trial.side, keep.unflatten(1, extent)[None])[0]


def _of_caption(trial: MetricInput) -> Scores:
    tower = trial.side.tower
    if not isinstance(tower, CLIPTextTower):
        raise Unsupported(
            "the protocol paper is of the text tower of CLIP, as Transformers holds it, and this is a "
            f"{type(tower).__name__}: choose protocol='correct'"
        )
    scores = of_all_rows(trial)
    own = tower.valid_tokens(trial.side.inputs, scores[..., None])
    return without_ends(trial.side, min_max(scores, own), own)


class _AllRows(Words):
    """The words of captions, of which a method keeps the scores of start and end tokens, too."""

    def keep(self, scores: PerToken) -> PerToken:
        return scores


def of_all_rows(trial: MetricInput) -> PerToken:
    """The scores of all rows of captions, start and end tokens too, for which the method is asked again: an answer
    holds those of words only.

    Raises:
        Unsupported: The trial cannot ask again.

    """
    words, side = trial.side.inputs.words, trial.side
    if trial.again is None:
        raise Unsupported(
            "the protocol paper asks the method again, for the scores of start and end tokens, and this "
            "trial has no method: call nibt.measure, or choose protocol='correct'"
        )
    assert words is not None
    inputs = replace(side.inputs, words=_AllRows(words.tokens, words.words, words.explained))
    return trial.again(Side(side.model, replace(side.trace, inputs=inputs), side.score)).scores
