"""Tests of ``nibt.metrics.infidelity``."""

from dataclasses import replace

import pytest
import torch
from captum.metrics import infidelity

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.methods.occlusion import Occlusion
from nibt.metrics.base import MetricInput
from nibt.metrics.infidelity import Infidelity
from tests import linear, tiny
from tests.helpers import both_sides, make_side
from tests.metrics.linear_maps import exact


@linear.both_sides
def test_infidelity_of_the_exact_parts_is_zero(of: Side) -> None:
    scores = exact(of)
    assert Infidelity()(MetricInput(of, scores)).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert Infidelity(scaled=True)(
        MetricInput(of, replace(scores, scores=7 * scores.scores))
    ).tolist() == pytest.approx([0, 0], abs=1e-6)
    metric = Infidelity(masks=20, seed=3)
    wrong = replace(scores, scores=of.units.keep(scores.scores + 0.5))
    hidden = metric.hidden(MetricInput(of, wrong))
    by_hand = (0.5 * hidden.sum(-1)).square().mean(0)  # each hidden unit adds half too much
    torch.testing.assert_close(metric(MetricInput(of, wrong)), by_hand, atol=1e-4, rtol=1e-4)


@both_sides
def test_infidelity_equals_captum(modality: str) -> None:
    whole = make_side(tiny.model("clip"), modality)
    of = replace(
        whole,
        trace=whole.trace.take([0]),
        score=lambda here: whole.score(here.expand(*here.shape[:-2], 2, -1))[..., :1],
    )
    answer, metric = Occlusion()(of), Infidelity(masks=12, seed=5)
    if modality == "text":  # in this net, removing words together has the opposite effect of removing them one by one
        answer = replace(answer, scores=-answer.scores)
    hidden, score = metric.hidden(MetricInput(of, answer))[:, 0].float(), masker(of, of.units)

    def perturbed(keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return hidden, keep - hidden

    def forward(keep: torch.Tensor) -> torch.Tensor:
        return score(keep[:, None])[:, 0]

    for scaled in (False, True):
        theirs = infidelity(
            forward,
            perturbed,
            torch.ones_like(answer.scores),
            answer.scores,
            n_perturb_samples=12,
            max_examples_per_batch=12,
            normalize=scaled,
        )
        torch.testing.assert_close(
            replace(metric, scaled=scaled)(MetricInput(of, answer)), theirs, atol=1e-7, rtol=1e-4
        )
    turned = MetricInput(of, replace(answer, scores=-answer.scores))  # a negative factor must not repair it
    taken = of.value() - score((1 - hidden)[:, None])
    torch.testing.assert_close(Infidelity(masks=12, seed=5, scaled=True)(turned), taken.square().mean(0))
