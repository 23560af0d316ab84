"""Tests of ``nibt.metrics.decisive_area``."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

import nibt
from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.metrics.base import MetricInput
from nibt.metrics.decisive_area import DecisiveArea
from nibt.results.attribution import Attribution
from tests import linear, tiny
from tests.metrics.linear_maps import exact


def _rising() -> tuple[Side, Attribution]:
    """Return images whose linear score rises from nothing to all of them, with its exact parts."""
    of = linear.image_side(6)
    sign = of.value().sign()
    parts = exact(of)
    return replace(of, score=lambda here: sign * of.score(here)), replace(parts, scores=sign[:, None] * parts.scores)


@pytest.mark.parametrize("region", ["keep", "change"])
def test_share_is_that_of_a_scan(region: str) -> None:
    """A linear score rises with the units of positive parts, which come first, and then falls: it passes half once."""
    of, parts = _rising()
    order = parts.scores.sort(dim=-1, descending=True).values
    kept = torch.nn.functional.pad(order.cumsum(-1), (1, 0))
    values = kept if region == "keep" else kept[:, -1:] - kept
    half = kept[:, -1:] / 2
    decides = (values > half) if region == "keep" else (values <= half)
    expected = decides.float().argmax(-1) / order.shape[1]
    torch.testing.assert_close(DecisiveArea(region=region)(MetricInput(of, parts)), expected)


@pytest.mark.parametrize("region", ["keep", "change"])
def test_no_smaller_set_decides(region: str) -> None:
    of, parts = _rising()
    count, score = parts.scores.shape[1], masker(of, of.units)
    everything = torch.ones_like(parts.scores)
    half = score(everything) / 2
    for item, share in enumerate(DecisiveArea(region=region)(MetricInput(of, parts)).tolist()):
        for chosen in combinations(range(count), round(share * count) - 1):
            keep = torch.zeros_like(everything)
            keep[item, list(chosen)] = 1
            value = score(keep if region == "keep" else everything - keep)[item]
            assert (value <= half[item] + 1e-5) if region == "keep" else (value >= half[item] - 1e-5)


def test_reversed_maps_need_more_units() -> None:
    of, parts = _rising()
    best = DecisiveArea()(MetricInput(of, parts))
    worst = DecisiveArea()(MetricInput(of, replace(parts, scores=-parts.scores)))
    assert (best <= worst).all()
    assert best.mean() < worst.mean()


def test_pairs_without_a_decision_have_no_value() -> None:
    of, parts = _rising()
    falling = replace(of, score=lambda here: -of.score(here))
    for decision in ("half", "sign"):
        assert DecisiveArea(decision=decision)(MetricInput(falling, parts)).isnan().all()


def test_decision_of_a_difference_is_its_sign() -> None:
    model, images = tiny.model("clip"), [tiny.image(seed=seed) for seed in range(6)]
    pairs = [nibt.Pair(image, "two cars") for image in images]
    metric = DecisiveArea(decision="sign")
    rows = nibt.measure(model, pairs, [metric], "gae", "difference", side="image", against="a small gray bird")
    values = [row.value for row in rows]
    assert all(value != value or 0 < value <= 1 for value in values)
    for image, value in zip(images, values, strict=True):
        better = nibt.rank(model, image, ["two cars", "a small gray bird"])[0].label == "two cars"
        assert better or value != value  # what is not preferred cannot be kept
