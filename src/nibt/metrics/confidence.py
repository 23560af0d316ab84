"""The base class of confidence drop and confidence increase: the score, and the score of what the map keeps.

``correct``: pixels are multiplied by the map after normalization, so that 0 is the mean color (or the backdrop that
``hide`` names). The map is scaled to [0, 1] over the units. The embeddings of words are blended with that of the
padding token before positions are added. Their scores are scaled over the words only, and start and end tokens are
kept.

``paper``: the protocol of the authors of NIB. A map is upsampled bilinearly to the pixels first, and scaled to [0, 1]
then. The scores of a caption are scaled together with those of its start and end tokens, and then these tokens are
removed. The rest is encoded once as it is and once with scaled rows of the embedding table. CLIP finds no end token in
it, so it pools at the largest id (old configurations) or at the first token. Use this protocol only to compare with
published numbers, since it does not measure the caption.

``m2ib``: the program of the authors of M2IB. The map is upsampled and scaled as in ``paper``, but the program takes its
first row for the map of the whole image, so that row scales every row of pixels. Captions lose their start and end
tokens, too. Tokens with a score above the median of the rest keep their ids, and all other ids become 0. What ``paper``
says about published numbers and pooling holds here.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch

from nibt.core.perturbation import masker, score_of_pixels, with_ids_of, without_ends
from nibt.core.side import Side
from nibt.data.units import Words
from nibt.errors import BadOption, Unsupported
from nibt.metrics._perturbation import PerturbationMetric
from nibt.metrics.base import MetricInput
from nibt.models.base import ImageTower
from nibt.models.clip import CLIPTextTower
from nibt.options import OneOf
from nibt.results.pixels import min_max, to_pixels
from nibt.types import PerExample, PerToken

Scores = tuple[PerExample, PerExample]


@dataclass(frozen=True)
class Confidence(PerturbationMetric):
    """Base class of metrics that compare the score with the score of what the map keeps.

    Args:
        protocol: ``correct``, or ``paper`` or ``m2ib``, which need the ``hide`` mean.
    """

    protocol: Annotated[str, OneOf(("correct", "paper", "m2ib"))] = field(default="correct", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol != "correct" and self.hide != "mean":
            raise BadOption(f"hide must be mean with the protocol {self.protocol} (got {self.hide!r}): leave hide out")

    def scores(self, metric_input: MetricInput) -> Scores:
        """Compute the score and the score of what is kept, once for all metrics of the input with these options."""
        side = metric_input.side
        attribution = metric_input.attribution

        def computed() -> Scores:
            if self.protocol != "correct":
                of_side = _image_scores if isinstance(side.tower, ImageTower) else _caption_scores
                return of_side(metric_input, self.protocol)
            kept = masker(side, attribution.units, smooth=True, hide=self.hide, seed=self.seed)
            return side.value(), kept(attribution.normalized())

        return metric_input.once(("confidence", self.protocol, self.hide, self.seed), computed)


def _image_scores(metric_input: MetricInput, protocol: str) -> Scores:
    assert isinstance(metric_input.side.tower, ImageTower)
    extent = metric_input.side.tower.extent(metric_input.side.inputs)
    pixels = to_pixels(metric_input.attribution.grid, *extent).flatten(1)
    keep = min_max(pixels, torch.ones_like(pixels, dtype=torch.bool)).unflatten(1, extent)
    if protocol == "m2ib":
        keep = keep[:, :1].expand_as(keep)
    return metric_input.side.value(), score_of_pixels(metric_input.side, keep[None])[0]


def _caption_scores(metric_input: MetricInput, protocol: str) -> Scores:
    tower = metric_input.side.tower
    if not isinstance(tower, CLIPTextTower):
        raise Unsupported(
            f"the protocol {protocol} needs the text tower of CLIP from Transformers (got {type(tower).__name__}): "
            "use protocol='correct'"
        )
    if protocol == "m2ib":
        assert metric_input.side.inputs.words is not None
        exact = metric_input.attribution.scores.double()
        explained = metric_input.side.inputs.words.explained[:, : exact.shape[1]].to(exact.device)
        middle = exact.masked_fill(~explained, torch.nan).nanquantile(0.5, dim=1, keepdim=True)
        return with_ids_of(metric_input.side, (exact > middle) & explained)

    scores = all_row_scores(metric_input)
    rows = tower.valid_tokens(metric_input.side.inputs, scores[..., None])
    return without_ends(metric_input.side, min_max(scores, rows), rows)


class _AllRows(Words):
    """Words whose start and end tokens keep their scores."""

    def keep(self, scores: PerToken) -> PerToken:
        """Return all scores."""
        return scores


def all_row_scores(metric_input: MetricInput) -> PerToken:
    """Call the method again for the scores of all rows of captions, with those of start and end tokens."""
    words = metric_input.side.inputs.words
    side = metric_input.side
    if metric_input.again is None:
        raise Unsupported(
            "the protocol paper calls the method again, for the scores of start and end tokens, and this MetricInput "
            "has no method: call nibt.measure, or use protocol='correct'"
        )

    assert words is not None
    inputs = replace(side.inputs, words=_AllRows(words.tokens, words.words, words.explained))
    return metric_input.again(Side(side.model, replace(side.trace, inputs=inputs), side.score)).scores


@dataclass(frozen=True)
class ConfidenceDrop(Confidence, name="confidence_drop"):
    r"""Confidence drop: how much the score decreases if the input is multiplied by its map.

    $$\text{drop} = 100 \max(0, S - S_{\text{kept}})$$

    The protocol ``paper`` is that of the authors of NIB, which encodes captions without their start and end tokens.

    Range:
        0 and up; at most 200 for the cosine

    Forward passes:
        1

    Use it when:
        You compare with the tables of M2IB and NIB. Use the protocols ``m2ib`` and ``paper`` for their numbers.

    Avoid it when:
        You want to know which map is better: maps with high scores nearly everywhere keep nearly all of the input. On
        50 scenes, ``rise`` has the good value 0.29, although its energy is 0.09. Report the three controls, too.

    Source:
        Chattopadhay et al., WACV 2018 (Grad-CAM++)
    """

    better = "lower"
    bounds = (0.0, math.inf)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        score, kept = self.scores(metric_input)
        return 100 * (score - kept).clamp_min(0).float().cpu()


@dataclass(frozen=True)
class ConfidenceIncrease(Confidence, name="confidence_increase"):
    """Confidence increase: whether the score increases if the input is multiplied by its map.

    The value of an example is 100 or 0, so a mean is a percentage.

    Range:
        0 or 100

    Forward passes:
        1

    Use it when:
        You compare with the tables of M2IB and NIB.

    Avoid it when:
        As for ``confidence_drop``.

    Source:
        Chattopadhay et al., WACV 2018 (Grad-CAM++)
    """

    better = "higher"
    bounds = (0.0, 100.0)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        score, kept = self.scores(metric_input)
        return 100 * (kept > score).float().cpu()
