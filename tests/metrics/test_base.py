"""Tests of ``nibt.metrics.base``."""

import math
import re
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
import torch

import nibt
from nibt.data.images import ImageInput
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.errors import BadOption
from nibt.metrics._perturbation import PerturbationMetric
from nibt.metrics.base import Metric, MetricInput
from nibt.metrics.confidence import Confidence
from nibt.registry import available, documentation, find
from tests import tiny
from tests.helpers import refused, rules
from tests.metrics.known_maps import FIRST, of, on


@pytest.mark.parametrize(
    "name",
    ["pointing_game", "energy", "intersection_over_union", "average_precision", "relevance_rank", "top_k_intersection"],
)
def test_mask_metrics_need_a_mask(name: str) -> None:
    assert np.isnan(of(name, on(FIRST, None)))
    assert np.isnan(of(name, on(FIRST, torch.zeros(8, 8, dtype=torch.bool)))), "no pixel of the objects is visible"


@pytest.mark.parametrize("name", available("metrics"))
def test_bounds_are_those_of_the_documented_range(name: str) -> None:
    """At which intervals end; hits are values at the bounds."""
    kind: type[Metric] = find("metrics", name)
    stated = re.search(r"Range:\n\s+(.*)", documentation("metrics", name))
    if stated is None:
        assert all(map(math.isfinite, kind.bounds)), "the page shows the bounds"
    elif match := re.match(r"(-?\d+) (?:to|or) (\d+)|(\d+) and up|at most (\d+)", stated[1]):
        ends = (match[1] or match[3] or -math.inf, match[2] or match[4] or math.inf)
        assert kind.bounds == tuple(map(float, ends))
    else:
        assert kind.bounds == (-math.inf, math.inf)


@pytest.mark.parametrize("name", available("metrics"))
def test_metrics_declare_their_sides_and_direction(name: str) -> None:
    kind: type[Metric] = find("metrics", name)
    assert kind.better in ("higher", "lower", "neither")
    assert set(kind.sides) <= {"image", "text"} or kind.sides == ("regions",)
    model = tiny.model("clip")
    pair = Pair(ImageInput(tiny.image().pil_image, "drawn"), "a cat", (Object("cat", (2, 2, 9, 9), None, ((2, 5),)),))
    rows = nibt.measure(model, [pair, pair], [name], "occlusion" if kind.sides == ("regions",) else "nib", batch_size=2)
    assert [(row.item, row.side) for row in rows] == [(item, side) for item in (0, 1) for side in kind.sides]
    assert rows[0].value == pytest.approx(
        rows[len(kind.sides)].value, abs=1e-3, nan_ok=True
    )  # equal inputs in one batch


def test_metric_input_computes_a_shared_value_once() -> None:
    metric_input, calls = on(FIRST), []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert [metric_input.once(key, compute) for key in ("a", "a", "b", "a")] == [1, 1, 2, 1]
    assert on(FIRST).once("a", compute) == 3, "another input has its own values"


def test_metric_input_is_equal_to_one_that_computed_nothing_yet() -> None:
    metric_input = on(FIRST)
    other = MetricInput(metric_input.side, metric_input.attribution, metric_input.truths)
    metric_input.once("a", lambda: 1)
    assert metric_input == other
    assert "_cache" not in repr(metric_input)


@pytest.mark.parametrize("name", [name for name in available("metrics") if fields(find("metrics", name))])
def test_metrics_take_only_their_own_options_by_position(name: str) -> None:
    """Options of base classes, such as ``hide``, are given by name."""
    kind = find("metrics", name)
    own = [field for field in fields(kind) if not field.kw_only]
    assert kind(*(field.default for field in own)) == kind()
    with pytest.raises(TypeError, match="positional argument"):
        kind(*(field.default for field in own), "mean")


@pytest.mark.parametrize("name", available("metrics"))
def test_metrics_are_frozen_and_equal_by_their_options(name: str) -> None:
    metric = find("metrics", name)()
    assert metric == find("metrics", name)()
    assert hash(metric) == hash(find("metrics", name)())
    for attribute in (*(field.name for field in fields(metric)), "another"):
        with pytest.raises(FrozenInstanceError):
            setattr(metric, attribute, None)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", available("metrics"))
def test_metrics_refuse_values_beyond_their_range_and_other_words(name: str) -> None:
    kind = find("metrics", name)
    for option, rule in rules(kind).items():
        for value in refused(rule):
            with pytest.raises(BadOption, match=rf"^{option} must be .*{re.escape(str(rule.limits))}"):
                kind(**{option: value})


def test_metric_without_a_call_cannot_be_built() -> None:
    for base in (Metric, PerturbationMetric, Confidence):
        with pytest.raises(TypeError, match=r"abstract method '?__call__"):
            type("Incomplete", (base,), {})()
