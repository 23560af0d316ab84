"""Tests of ``nibt.results.narrowing``."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.errors import BadInput
from nibt.results.narrowing import NarrowingCurve, SideCurve
from tests import tiny

MODEL, IMAGE = tiny.model("clip"), tiny.image()


def test_curve_is_saved_and_loaded(tmp_path: Path) -> None:
    curve = nibt.narrowing_curve(MODEL, [IMAGE, tiny.image(seed=1)], "a cat", points=3, samples=2)
    curve.save(tmp_path / "x.json")
    assert NarrowingCurve.load(tmp_path / "x.json") == curve
    data = json.loads((tmp_path / "x.json").read_text())
    assert data["kind"] == "narrowing_curve"
    assert data["sides"]["image"]["information"][0][-1] is None, "JSON has no infinite numbers"
    assert [pair["caption"] for pair in data["pairs"]] == ["a cat", "a cat"]
    (tmp_path / "x.json").write_text(json.dumps({**data, "positions": "all"}))
    with pytest.raises(BadInput, match="not a file of kind 'narrowing_curve'"):
        NarrowingCurve.load(tmp_path / "x.json")


def test_request_of_a_curve_has_all_that_changes_it() -> None:
    curve = nibt.narrowing_curve(MODEL, IMAGE, "a cat", points=3, samples=2)
    changed = [
        nibt.narrowing_curve(MODEL, IMAGE, "a dog", points=3, samples=2),
        nibt.narrowing_curve(MODEL, IMAGE, "a cat", points=2, samples=2),
        nibt.narrowing_curve(MODEL, IMAGE, "a cat", points=3, samples=3),
        nibt.narrowing_curve(MODEL, IMAGE, "a cat", points=3, samples=2, side="text"),
        nibt.narrowing_curve(MODEL, IMAGE, "a cat", points=3, samples=2, target="logit"),
    ]
    requests = [json.dumps(one.request(), sort_keys=True) for one in (curve, *changed)]
    assert len(set(requests)) == len(requests)


def test_mean_information_has_a_limit_where_all_pairs_have() -> None:
    side = SideCurve(((1.0, 2.0, 3.0), (3.0, 4.0, 5.0)), ((0.0, 1.0, None), (0.0, 2.0, 4.0)))
    assert side.mean_scores == (2.0, 3.0, 4.0)
    assert side.mean_information == (0.0, 1.5, None)


def test_curve_describes_itself() -> None:
    curve = nibt.narrowing_curve(MODEL, IMAGE, "a cat", points=3, noise="none")
    text = repr(replace(curve, warnings=("look out",)))
    ends = curve.sides["image"].scores[0]
    assert f"image  cosine from {ends[0]:.4f} to {ends[-1]:.4f}" in text
    assert "'a cat', 3 positions" in text
    assert "warning: look out" in text
    assert "of 2 pairs" in repr(
        nibt.narrowing_curve(MODEL, [IMAGE, tiny.image(seed=1)], "a cat", points=2, noise="none")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["positions"].pop(), r"sides.image must have 2 scores .* for each of 1 pairs \(got \[3\]\)"),
        (lambda data: data["sides"]["text"]["information"].clear(), r"sides.text must have 3 scores .*\(got \[\]\)"),
        (lambda data: data["pairs"].clear(), "a curve must have a pair"),
        (lambda data: data["sides"].clear(), "a curve must have a pair, a side"),
    ],
)
def test_damaged_data_are_refused(change: Callable[[Any], object], message: str) -> None:
    data = nibt.narrowing_curve(MODEL, IMAGE, "a cat", points=3, samples=2).to_json()
    change(data)
    with pytest.raises(BadInput, match=message):
        NarrowingCurve.from_json(data)
