"""Tests of ``nibt.metrics.base``."""

import math
import re
from dataclasses import MISSING, FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

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
from tests.helpers import is_number
from tests.metrics.known_maps import FIRST, of, on


@pytest.mark.parametrize(
    "name",
    ["pointing_game", "energy", "intersection_over_union", "average_precision", "relevance_rank", "top_k_intersection"],
)
def test_mask_metrics_need_a_mask(name: str) -> None:
    assert np.isnan(of(name, on(FIRST, None)))


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


REMOVAL = {"hide": "mean", "seed": 0}
LABELS = {"template": "a photo of a {}."}
COALITIONS = {"coalitions": 64, "share": 0.5, "seed": 0}
DEFAULTS: dict[str, dict[str, Any]] = {
    "additive_share": COALITIONS,
    "average_precision": {"both_classes": False},
    "confidence_drop": REMOVAL | {"protocol": "correct"},
    "confidence_increase": REMOVAL | {"protocol": "correct"},
    "decisive_area": REMOVAL | {"region": "keep", "decision": "half"},
    "deletion": REMOVAL | {"levels": 10},
    "infidelity": REMOVAL | {"masks": 64, "scaled": False},
    "insertion": REMOVAL | {"levels": 10},
    "intersection_over_union": {"threshold": None},
    "label_iou": LABELS | {"names": None, "background": 0.0, "logit_scale": 40.0, "against": False},
    "label_precision": LABELS | {"score": "highest", "against": False},
    "max_sensitivity": {"samples": 10, "radius": 0.02, "seed": 0},
    "mean_iou": LABELS | {"threshold": None, "centered": False},
    "noun_deletion": {"levels": 10, "caption": "whole"},
    "noun_energy": {"on": "own"},
    "noun_insertion": {"levels": 10, "caption": "whole"},
    "noun_mass": {"over": "pixels"},
    "noun_pointing": {"tolerance": 15 / 640},
    "pair_deletion": {"levels": 10},
    "pair_insertion": {"levels": 10},
    "pixel_accuracy": LABELS | {"threshold": None, "centered": False},
    "point_iou": LABELS | {"threshold": 0.5, "centered": False},
    "pointing_game": {"tolerance": 15 / 640},
    "retrieval_after_removal": REMOVAL | {"corrupted": "query", "image_share": 0.25, "text_share": 0.1},
    "road": {"levels": 10, "noise": 0.01, "seed": 0},
    "table_faithfulness": COALITIONS | {"measure": "r2"},
    "top_k_intersection": {"share": 0.02},
    "zero_shot_accuracy": LABELS
    | {"top": 1, "change": "remove", "order": "highest", "fill": "black", "share": 0.9, "levels": 9}
    | {"explained": "caption", "seed": 0},
}
"""The defaults that the pages of metrics state."""


@pytest.mark.parametrize("name", available("metrics"))
def test_metrics_have_the_documented_defaults(name: str) -> None:
    actual = {field.name: field.default for field in fields(find("metrics", name)) if field.default is not MISSING}
    assert actual == DEFAULTS.get(name, {})


BOUNDS: dict[tuple[str, str], tuple[str, list[Any], list[Any]]] = {
    ("confidence_drop", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("confidence_increase", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("decisive_area", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("deletion", "levels"): ("between 1 and 1,000", [1], [0]),
    ("deletion", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("infidelity", "masks"): ("between 1 and 100,000", [1], [0]),
    ("infidelity", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("insertion", "levels"): ("between 1 and 1,000", [1], [0]),
    ("insertion", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("label_iou", "background"): ("between 0 and 1", [0.0, 1.0], [-0.001, 1.001, math.nan]),
    ("label_iou", "logit_scale"): ("above 0", [1e-9], [0.0, -1.0, math.nan]),
    ("max_sensitivity", "radius"): ("above 0", [1e-9], [0.0, -1.0, math.nan]),
    ("max_sensitivity", "samples"): ("between 1 and 100,000", [1], [0]),
    ("max_sensitivity", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("retrieval_after_removal", "image_share"): ("above 0 and at most 1", [1e-9, 1.0], [0.0, 1.001, math.nan]),
    ("retrieval_after_removal", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("retrieval_after_removal", "text_share"): ("above 0 and at most 1", [1e-9, 1.0], [0.0, 1.001, math.nan]),
    ("noun_deletion", "levels"): ("between 1 and 1,000", [1], [0]),
    ("noun_insertion", "levels"): ("between 1 and 1,000", [1], [0]),
    ("noun_pointing", "tolerance"): ("between 0 and 1", [0.0, 1.0], [-0.001, 1.001, math.nan]),
    ("pair_deletion", "levels"): ("between 1 and 1,000", [1], [0]),
    ("pair_insertion", "levels"): ("between 1 and 1,000", [1], [0]),
    ("road", "levels"): ("between 2 and 1,000", [2], [1]),
    ("road", "noise"): ("at least 0", [0.0], [-0.01, math.nan]),
    ("road", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("top_k_intersection", "share"): ("above 0 and at most 1", [1e-9, 1.0], [0.0, 1.001, math.nan]),
    ("zero_shot_accuracy", "levels"): ("between 1 and 1,000", [1], [0]),
    ("zero_shot_accuracy", "seed"): ("between 0 and 4,294,967,295", [0], [-1]),
    ("zero_shot_accuracy", "share"): ("above 0 and at most 1", [1e-9, 1.0], [0.0, 1.001, math.nan]),
    ("zero_shot_accuracy", "top"): ("between 1 and 1,000", [1], [0]),
    ("pointing_game", "tolerance"): ("between 0 and 1", [0.0, 1.0], [-0.001, 1.001, float("nan")]),
}
"""What is allowed of each number, the values at the edges, and the values just outside."""
for name in ("intersection_over_union", "mean_iou", "pixel_accuracy", "point_iou"):
    BOUNDS[name, "threshold"] = "at least 0 and below 1", [0.0, 0.999], [-0.001, 1.0, math.nan]
for name in ("additive_share", "table_faithfulness"):
    BOUNDS[name, "coalitions"] = "between 2 and 10,000", [2], [1]
    BOUNDS[name, "share"] = "above 0 and below 1", [1e-9, 0.999], [0.0, 1.0, math.nan]
    BOUNDS[name, "seed"] = "between 0 and 4,294,967,295", [0], [-1]


def test_bounds_cover_every_number_of_every_metric() -> None:
    numbers = {
        (name, field.name)
        for name in available("metrics")
        for field in fields(find("metrics", name))
        if is_number(field.type)
    }
    assert BOUNDS.keys() == numbers


@pytest.mark.parametrize(("name", "option"), BOUNDS)
def test_metrics_take_numbers_up_to_their_bounds(name: str, option: str) -> None:
    rule, allowed, rejected = BOUNDS[name, option]
    for value in allowed:
        assert getattr(find("metrics", name)(**{option: value}), option) == value
    for value in rejected:
        with pytest.raises(BadOption, match=rf"{option} must be {rule} \(got {value}\)"):
            find("metrics", name)(**{option: value})


@pytest.mark.parametrize("name", [name for name, options in DEFAULTS.items() if "hide" in options])
def test_removal_metrics_reject_unknown_replacements(name: str) -> None:
    with pytest.raises(BadOption, match=r"hide must be one of mean, blur, noise \(got 'black'\)"):
        find("metrics", name)(hide="black")


def test_metric_without_a_call_cannot_be_built() -> None:
    for base in (Metric, PerturbationMetric, Confidence):
        with pytest.raises(TypeError, match=r"abstract method '?__call__"):
            type("Incomplete", (base,), {})()
