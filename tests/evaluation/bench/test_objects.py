"""Tests of plans that have objects in place of names: a model, a data set, methods and metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import nibt
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, OtherRequest
from nibt.methods.masks import Occlusion
from nibt.metrics.localization import Energy
from tests import tiny
from tests.evaluation.bench.script_metrics import PooledShare, PositiveShare


@dataclass(frozen=True)
class Named(Occlusion):
    """A method that nothing registers."""


def plan(method: Any = "occlusion", metric: Any = "energy") -> dict[str, Any]:
    model, data = tiny.model("clip"), Scenes(count=3)
    return {"models": [model], "data": [data], "methods": [method], "metrics": [metric], "sides": ["image"]}


def test_objects_give_the_values_of_names(tmp_path: Path) -> None:
    by_name, by_object = (
        nibt.benchmark(plan(*entries), tmp_path / name).frame()
        for name, entries in (("names", ("occlusion", "energy")), ("objects", (Occlusion(), Energy())))
    )
    assert by_name["value"].tolist() == by_object["value"].tolist()
    assert by_name["method_label"].tolist() == by_object["method_label"].tolist()


def test_a_method_that_is_not_registered_is_measured_and_reported(tmp_path: Path) -> None:
    run = nibt.benchmark(plan(Named()), tmp_path / "run")
    wanted = nibt.benchmark(plan(), tmp_path / "wanted").frame().query("method == 'occlusion'")
    actual = run.frame().query("method == 'test_objects'")
    assert actual["value"].tolist() == wanted["value"].tolist()
    reopened = type(run).open(tmp_path / "run")
    assert reopened.frame().equals(run.frame())
    assert "test_objects" in reopened.summary().lines["method"].tolist()


def test_a_report_of_another_program_has_the_bounds_of_a_metric_of_the_script(tmp_path: Path) -> None:
    """Another program reads the folder, and cannot find the class."""
    run = nibt.benchmark(plan(metric=PositiveShare()), tmp_path / "run")
    of_script = nibt.write_report(run)
    assert "script_metrics (higher)" in of_script
    assert nibt.write_report(tmp_path / "run") == of_script
    lines = type(run).open(tmp_path / "run").summary().lines
    assert lines[["low", "high"]].stack().between(0, 1).all()


def test_a_number_of_all_pairs_needs_its_class(tmp_path: Path) -> None:
    run = nibt.benchmark(plan(metric=PooledShare()), tmp_path / "run")
    assert "pooled_share (higher)" in nibt.write_report(run)
    with pytest.raises(BadInput, match=r"pooled_share for a data set is computed by its class.*write_report"):
        nibt.write_report(tmp_path / "run")


@pytest.mark.slow
def test_a_run_with_objects_is_resumed(tmp_path: Path) -> None:
    run = nibt.benchmark(plan(Named()), tmp_path / "run")
    removed = next(path for path in (tmp_path / "run" / "parts").iterdir())
    before = run.frame().drop(columns="seconds")
    removed.unlink()
    assert nibt.benchmark(plan(Named()), tmp_path / "run").frame().drop(columns="seconds").equals(before)


def power(exponent: float) -> Any:
    def scores(hidden: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return (hidden * gradient).sum(-1) ** exponent

    return nibt.method(scores, layer=2)


def test_a_run_with_a_function_is_resumed_and_not_that_of_another_function(tmp_path: Path) -> None:
    """A function is known by its source and its bound values, since its address is another one in each session."""
    run = nibt.benchmark(plan(power(2)), tmp_path / "run")
    rows = len(run.frame())
    next(path for path in (tmp_path / "run" / "parts").iterdir()).unlink()
    assert len(nibt.benchmark(plan(power(2)), tmp_path / "run").frame()) == rows
    assert "0x" not in (tmp_path / "run" / "manifest.json").read_text(encoding="utf-8")
    assert run.plan.methods[0].label == "scores layer=2"
    with pytest.raises(OtherRequest, match="function"):
        nibt.benchmark(plan(power(3)), tmp_path / "run")


@pytest.mark.parametrize("key", ["models", "data", "methods", "metrics"])
def test_other_objects_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=rf"{key}\[0\] must be a name, a table with a name, or a"):
        nibt.benchmark({**plan(), key: [object()]}, tmp_path / "run")
