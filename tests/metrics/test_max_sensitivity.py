"""Tests of ``nibt.metrics.sensitivity``."""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nibt.core.perturbation import item_rng
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods.controls import Ones
from nibt.methods.nib import NIB
from nibt.metrics.base import MetricInput
from nibt.metrics.faithfulness import Infidelity
from nibt.metrics.sensitivity import MaxSensitivity
from nibt.results.attribution import Attribution
from tests import tiny
from tests.helpers import both_sides, captum, make_side
from tests.metrics.linear_maps import pairs, trial, values


def test_max_sensitivity_equals_captum() -> None:
    of, method = make_side(tiny.model("clip"), "image"), NIB((1,), "zero", "gauss", 2)
    metric = MaxSensitivity(samples=3, radius=0.1, seed=2)
    noise = [
        torch.stack(
            [
                torch.from_numpy(
                    item_rng(of.inputs, item, 2, 2, sample).uniform(-1, 1, of.inputs.values.shape[1:])
                ).float()
                for sample in range(3)
            ]
        )
        for item in range(2)
    ]

    def explain(pixels: Any) -> tuple[torch.Tensor]:
        pixels, actual = (
            pixels[0] if isinstance(pixels, tuple) else pixels,
            [],
        )  # item by item, since captum repeats them
        for place, one in enumerate(pixels):
            item = place // (len(pixels) // 2)
            inputs = replace(of.inputs.take([item]), values=one[None])
            score = lambda here, item=item: of.score(here.expand(*here.shape[:-2], 2, -1))[..., item : item + 1]  # noqa: E731
            with torch.enable_grad():
                actual.append(method(Side(of.model, of.tower.trace(inputs), score)).scores)
        return (torch.cat(actual),)

    theirs = captum("metrics.sensitivity_max")(
        explain, of.inputs.values, lambda x, _: x + 0.1 * torch.cat(noise), 0.1, 3, max_examples_per_batch=6
    )
    torch.testing.assert_close(metric(trial(of, method)), theirs, atol=1e-4, rtol=1e-3)


@both_sides
def test_max_sensitivity_is_independent_of_the_batch(modality: Any) -> None:
    model, metric = tiny.model("siglip naflex"), MaxSensitivity(samples=2)
    together, alone = (
        values(model, pairs(2), metric, side=modality, method="occlusion", batch_size=size) for size in (2, 1)
    )
    np.testing.assert_allclose(together, alone, atol=1e-4, rtol=2e-3)
    assert min(together) > 0
    assert values(model, pairs(2), metric, side=modality, method="ones") == [0, 0]
    larger = values(model, pairs(2), replace(metric, radius=0.2), side=modality, method="occlusion")
    assert (np.array(larger) > np.array(together)).all()


def test_max_sensitivity_needs_a_method() -> None:
    of = make_side(tiny.model("clip"), "image")
    assert MaxSensitivity()(MetricInput(of, Ones()(of))).isnan().all()
    with pytest.raises(BadOption, match="samples must be between 1 and"):
        MaxSensitivity(samples=0)
    with pytest.raises(BadOption, match="masks must be between 1 and"):
        Infidelity(masks=0)


def test_max_sensitivity_has_the_defaults_of_captum() -> None:
    theirs = inspect.signature(captum("metrics.sensitivity_max")).parameters
    metric = MaxSensitivity()
    assert (metric.samples, metric.radius) == (theirs["n_perturb_samples"].default, theirs["perturb_radius"].default)
    assert metric.seed == 0


def test_max_sensitivity_is_the_largest_change_relative_to_the_map() -> None:
    of = make_side(tiny.model("clip"), "image")
    plain = torch.zeros(2, 16)
    plain[0, 3] = 0.5  # the second map is zero, so its change is not divided
    changes = iter([1.0, 3.0, 2.0])

    def again(_: Side) -> Attribution:
        moved = plain.clone()
        moved[:, :4] += next(changes)
        return Attribution(moved, of.units, torch.zeros(2))

    metric_input = MetricInput(of, Attribution(plain, of.units, torch.zeros(2)), again=again)
    assert MaxSensitivity(samples=3)(metric_input).tolist() == [2 * 3 / 0.5, 2 * 3]
    assert next(changes, None) is None, "one call for each sample"
