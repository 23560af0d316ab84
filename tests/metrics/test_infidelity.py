"""Tests of ``nibt.metrics.faithfulness``."""

from dataclasses import replace

import pytest
import torch

from nibt.core.perturbation import item_rng, masker
from nibt.core.side import Side
from nibt.methods.masks import Occlusion
from nibt.metrics.base import MetricInput
from nibt.metrics.faithfulness import Infidelity
from tests import linear, tiny
from tests.helpers import both_sides, captum, make_side
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
        theirs = captum("metrics.infidelity")(
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


@linear.both_sides
def test_infidelity_draws_a_share_for_each_mask(of: Side) -> None:
    metric, metric_input = Infidelity(masks=30, seed=2), MetricInput(of, exact(of))
    hidden = metric.hidden(metric_input)
    explained = of.units.explained if of.inputs.words is not None else torch.ones(hidden.shape[1:], dtype=torch.bool)
    for item, units in enumerate(explained):
        draws = item_rng(of.inputs, item, 2, 3)
        shares = torch.from_numpy(draws.random((30, 1)))
        wanted = torch.from_numpy(draws.random((30, int(units.sum())))) < shares
        assert torch.equal(hidden[:, item, units], wanted)
        assert not hidden[:, item, ~units].any()
    assert torch.equal(Infidelity(masks=30).hidden(metric_input), replace(metric, seed=0).hidden(metric_input))


@linear.both_sides
def test_scaled_infidelity_is_independent_of_the_scale(of: Side) -> None:
    scores = exact(of)
    scores = replace(scores, scores=of.units.keep(scores.scores + 0.5))
    wanted = Infidelity(scaled=True)(MetricInput(of, scores))
    for scale in (1e-9, 1e6):
        actual = Infidelity(scaled=True)(MetricInput(of, replace(scores, scores=scale * scores.scores)))
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=0)
    empty = MetricInput(of, replace(scores, scores=0 * scores.scores))
    assert torch.equal(Infidelity(scaled=True)(empty), Infidelity()(empty)), "a map of zeros predicts no drop"
