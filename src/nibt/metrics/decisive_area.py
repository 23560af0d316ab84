"""The decisive area: how few of the first units of a map keep what the model decides, or change it."""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool
from torch import Tensor

from nibt.metrics._perturbation import PerturbationMetric, decisive_counts, ranks
from nibt.metrics.base import MetricInput
from nibt.options import OneOf
from nibt.results.decisive import REGIONS
from nibt.types import PerExample


@dataclass(frozen=True)
class DecisiveArea(PerturbationMetric, name="decisive_area"):
    r"""Decisive area: the smallest share of units, by decreasing score, that keeps a decision or changes it.

    A map that finds the evidence of the decision has a small area. With ``region="keep"``, the units with the highest
    scores are kept, and the area is the smallest share that keeps the decision. With ``region="change"``, they are
    removed, and it is the smallest share that changes it. The decision ``half`` is that the target is above the middle
    between its values without units and with all of them. The decision ``sign`` is that the target is above 0: with
    ``difference``, that the pair ranks above the one that it is compared with.

    The share is found by bisection. It is exact if the target rises with each unit that is inserted; if not, it is one
    of the shares at which the decision changes. A pair has no value if the input with all units does not have the
    decision, or the input without units has it.

    Range:
        0 to 1

    Forward passes:
        the binary logarithm of the number of units, and 2 for all maps of a pair

    Use it when:
        You report which part of an image is enough for a decision, or changes it if removed. Also report ``random``.

    Avoid it when:
        You can measure with one ``hide`` only: the model was not trained on inputs with removed parts.

    Source:
        The idea of minimal sufficient inputs: Carter et al., AISTATS 2019, arXiv 1810.03805

    Args:
        region: ``keep`` or ``change``.
        decision: ``half`` or ``sign``.
    """

    better = "lower"
    bounds = (0.0, 1.0)

    region: Annotated[str, OneOf(REGIONS)] = "keep"
    decision: Annotated[str, OneOf(("half", "sign"))] = "half"

    def __call__(self, metric_input: MetricInput) -> PerExample:
        order, counts = ranks(metric_input)
        embed = self.embedder(metric_input)
        score = metric_input.side.score
        nothing, everything = (
            score(self.end(metric_input, embed, is_full)[None])[0].float() for is_full in (False, True)
        )
        limit = (nothing + everything) / 2 if self.decision == "half" else torch.zeros_like(nothing)

        def is_above(kept: Bool[Tensor, "batch unit"]) -> Bool[Tensor, " batch"]:
            return score(embed(kept.float())[None])[0].float() > limit

        def decides(first: Bool[Tensor, "batch unit"]) -> Bool[Tensor, " batch"]:
            return is_above(first) if self.region == "keep" else ~is_above(~first)

        first = decisive_counts(order, counts, decides)
        return (first / counts).masked_fill(~((nothing <= limit) & (limit < everything)), torch.nan).cpu()
