"""Tests of ``nibt.evaluation.bench.run``."""

import json
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nibt
from nibt.engine.batches import BatchCache, TimedTrace
from nibt.errors import BadInput, BadOption, OtherRequest, Unsupported
from nibt.evaluation.bench import cell as work
from nibt.evaluation.bench import report as reporting
from nibt.evaluation.bench import run as running
from nibt.evaluation.bench.cell import fingerprint
from nibt.evaluation.bench.run import Benchmark
from nibt.progress import Progress
from tests import tiny
from tests.evaluation.bench.plans import SCENES


def test_benchmark_checks_methods_before_measuring(tmp_path: Path, plan: dict[str, Any]) -> None:
    plan["methods"] = ["nib", {"name": "nib", "options": {"layer": 99}}]
    with pytest.raises(BadOption, match=r"methods\[1\]: layer must be between 0 and \d"):
        nibt.benchmark(plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_star_skips_what_a_model_cannot_run(
    tmp_path: Path, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = work.CellRunner.spec

    def without_attention(runner: work.CellRunner, side: Any = "image") -> Any:
        if runner.cell.method.name in ("gae", "occlusion"):
            raise Unsupported("no attention")
        return resolved(runner, side)

    monkeypatch.setattr(work.CellRunner, "spec", without_attention)
    monkeypatch.setattr("nibt.evaluation.bench.plan.available", lambda kind: ["gae", "nib", "rollout"])
    plan["methods"] = ["*"]
    started: list[Any] = []
    run, data = Benchmark.begin(plan, tmp_path / "run")
    run.measure_missing(data, on_start=lambda *values: started.append(values))
    ((_, skipped),) = started
    assert skipped == ["gae"]
    again = Benchmark.open(tmp_path / "run")
    assert list(again.manifest.skipped.values()) == [{"gae": "no attention"}]
    assert not again.missing_chunks()
    assert set(again.frame()["method"]) == {"nib", "rollout", "random", "center", "ones"}


def test_a_method_that_the_only_model_cannot_run_is_refused(tmp_path: Path, plan: dict[str, Any]) -> None:
    plan |= {"models": ["lite"], "methods": ["nib", "gae"]}
    with pytest.raises(Unsupported, match=r"methods\[1\]: gae needs attention.*methods for this .* tower: .*occlusion"):
        nibt.benchmark(plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()


KILLED = """
import os, random, signal, sys, time
import nibt
from nibt.evaluation.bench.cell import fingerprint
from nibt.evaluation.bench.run import Benchmark
plan, out = sys.argv[1:]
nibt.benchmark(plan, out + "/whole")
parts = out + "/killed/parts"

def done():
    return len([name for name in os.listdir(parts) if name[0] != "."]) if os.path.isdir(parts) else 0

draws = random.Random(0)
there = []
for _ in range(3):
    child = os.fork()
    if not child:
        nibt.benchmark(plan, out + "/killed")
        os._exit(0)
    enough = done() + draws.randrange(1, 5)
    while done() < enough and not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.002)
    time.sleep(draws.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    there.append(done())
nibt.benchmark(plan, out + "/killed")
runs = [Benchmark.open(out + name) for name in ("/whole", "/killed")]
print(there, len(list(runs[0].chunks())))
print(*(fingerprint(run.table()) for run in runs), *(run.table().num_rows for run in runs))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks, so that torch is loaded once")
def test_benchmark_resumes_with_the_same_bits_after_being_killed(tmp_path: Path, plan: dict[str, Any]) -> None:
    del plan["data"]
    text = "\n".join(
        [
            "batch_size = 2",
            f"models = [{{ name = {json.dumps(plan['models'][0]['name'])} }}]",
            'methods = ["nib", { name = "m2ib", options = { steps = 2, samples = 2 } }, "grad_cam"]',
            'data = [{ name = "scenes", options = { count = 8 } }]',
            'metrics = ["pointing_game", "confidence_drop"]',
        ]
    )
    (tmp_path / "plan.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "plan.toml"), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[-2:]
    whole, killed, rows, others = second.split()
    assert whole == killed, f"parts there after each kill, and in all: {first}"
    assert int(rows) == int(others) == 8 * 6 * (2 + 1)


def test_benchmark_records_a_bad_pair(tmp_path: Path, plan: dict[str, Any], monkeypatch: Any) -> None:
    measure = work.measure

    def choosy(model: Any, pairs: Any, *rest: Any, **options: Any) -> Any:
        if any(pair.caption == tiny.CAPTIONS[1] for pair in pairs):
            raise BadInput("this caption cannot be")
        return measure(model, pairs, *rest, **options)

    monkeypatch.setattr(work, "measure", choosy)
    run = nibt.benchmark(plan, tmp_path / "run")
    rows = run.table().to_pylist()
    own = [row for row in rows if row["method_label"] == "nib"]
    assert len(own) == 6 * (4 + 3)  # corner_share is for images only
    errors = {row["item"]: row["error"] for row in own}
    assert "2.png" in errors[2]
    assert errors[1] == errors[5] == "this caption cannot be"
    assert errors[0] == errors[3] == errors[4] == ""
    assert all(np.isnan(row["value"]) for row in own if row["error"])
    assert all(np.isfinite(row["value"]) and row["seconds"] > 0 for row in own if not row["error"])
    assert {row["item"] for row in rows if row["method"] == "m2ib"} == set(range(5))
    summary = run.summary()
    failed = set(summary.failures[["item", "error"]].itertuples(index=False, name=None))
    assert failed == {(item, errors[item]) for item in (1, 2, 5)}
    counts = set(summary.lines[["pairs", "failed"]].itertuples(index=False, name=None))
    assert counts == {(3, 3), (3, 2)}
    assert run.frame().to_dict("list")["error"] == [row["error"] for row in rows]


@pytest.mark.slow
def test_benchmark_resumes_after_an_error(tmp_path: Path, plan: dict[str, Any], monkeypatch: Any) -> None:
    measure, calls = work.measure, []

    def broken(*rest: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("a bug")
        return measure(*rest, **options)

    plan["methods"] = ["nib"]
    with monkeypatch.context() as patch:
        patch.setattr(work, "measure", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            nibt.benchmark(plan, tmp_path / "run")
    begun = Benchmark.open(tmp_path / "run")
    assert len(begun.missing_chunks()) == len(list(begun.chunks())) - 2
    assert "The run is incomplete: 6 of 8 chunks" in " ".join(reporting._about(begun))
    progress: list[Progress] = []
    nibt.benchmark(plan, tmp_path / "run", on_progress=progress.append)
    assert len(progress) == len(list(begun.chunks())) - 2
    assert not begun.missing_chunks()
    assert fingerprint(begun.table()) == fingerprint(nibt.benchmark(plan, tmp_path / "again").table())
    sessions = begun.manifest.sessions
    assert [session["ended"] for session in sessions] == ["RuntimeError: a bug", "complete"]
    assert [session["chunks"] for session in sessions] == [2, 6]
    assert sessions[0]["versions"]["torch"]
    assert re.fullmatch("[0-9a-f]{16}", begun.manifest.models["tiny"]["model"]["weights_hash"])
    with pytest.raises(OtherRequest, match=r"plan\.batch_size: 4 \(now 3\)"):
        nibt.benchmark({**plan, "batch_size": 3}, tmp_path / "run")


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("request", {"lengths": {}}, "request.lengths.pairs is missing: move it away"),
        ("request", {"plan": {"models": ["tiny"]}}, "request.methods is missing; data is missing"),
        ("models", {"tiny": {}}, "models.tiny.model is missing"),
    ],
)
def test_edited_manifests_are_errors_with_their_file(
    section: str, value: dict[str, Any], message: str, tmp_path: Path, plan: dict[str, Any]
) -> None:
    manifest = nibt.benchmark({**plan, "methods": ["ones"]}, tmp_path / "run").folder / "manifest.json"
    data = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**data, section: {**data[section], **value}}))
    with pytest.raises(BadInput, match=re.escape(f"{manifest}: {message}")):
        nibt.write_report(Benchmark.open(tmp_path / "run"))


def test_benchmark_equals_measure(tmp_path: Path, plan: dict[str, Any], clip_folder: Path) -> None:
    plan |= {
        "data": [SCENES],
        "batch_size": 6,
        "methods": [{"name": "nib", "options": {"steps": 2}}],
        "metrics": ["special_token_share", {"name": "deletion", "measured": "softmax"}],
    }
    actual = nibt.benchmark(plan, tmp_path / "run").table().to_pylist()
    pairs = list(nibt.registry.find("datasets", "scenes")(**SCENES["options"]))
    model = nibt.load_model(clip_folder)
    for name, measured in (("special_token_share", "explained"), ("deletion", "softmax")):
        rows = nibt.measure(model, pairs, [name], "nib", measured=measured, steps=2)
        own = {
            (row["item"], row["side"]): row["value"]
            for row in actual
            if (row["metric"], row["method"]) == (name, "nib")
        }
        assert own == {(row.item, row.side): row.value for row in rows}
        drawn = {
            (row["item"], row["side"]): tuple(row["curve"])
            for row in actual
            if (row["metric"], row["method"]) == (name, "nib")
        }
        assert drawn == {(row.item, row.side): row.curve for row in rows}
    resolved = json.loads(next(row["resolved"] for row in actual if row["method"] == "nib"))
    assert (resolved["steps"], resolved["baseline"], resolved["target"]) == (2, "blank", "cosine")


def test_benchmark_keeps_the_traces_of_one_batch_at_most(
    tmp_path: Path, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    traces: list[weakref.ref[TimedTrace]] = []
    batches: list[set[tuple[int, ...]]] = []

    class Watched(BatchCache):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            batches.append(set())

        def keep(self, pairs: Sequence[Any], side: Any, timed: TimedTrace) -> TimedTrace:
            if not batches[-1]:
                assert not any(trace() for trace in traces), "the traces are dropped before the next batch"
            batches[-1].add(tuple(map(id, pairs)))
            traces.append(weakref.ref(timed))
            return super().keep(pairs, side, timed)

    monkeypatch.setattr(running, "BatchCache", Watched)
    nibt.benchmark(plan, tmp_path / "run")
    assert traces
    assert [len(of_batch) for of_batch in batches] == [1, 1, 1, 1], (
        "the second batch of six pairs is shorter for m2ib, between the other methods"
    )


@pytest.mark.slow
def test_benchmark_does_not_depend_on_the_order_of_methods(tmp_path: Path, plan: dict[str, Any]) -> None:
    plan["metrics"] += ["deletion", "insertion"]
    tables = []
    for name in ("forward", "backward"):
        rows = nibt.benchmark(plan, tmp_path / name).table().to_pylist()
        keys = ("method_label", "item", "side", "metric_label")
        tables.append(
            {tuple(row[key] for key in keys): np.array([row["value"], *row["curve"]]).tobytes() for row in rows}
        )
        plan["methods"] = plan["methods"][::-1]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_benchmark_stores_the_curves_of_areas(tmp_path: Path, plan: dict[str, Any]) -> None:
    """For each pair in the store, and for the mean curve that is drawn."""
    plan |= {"data": [SCENES], "methods": ["nib"], "metrics": ["deletion", "insertion", "special_token_share"]}
    run = nibt.benchmark(plan, tmp_path / "run")
    rows = run.table().to_pylist()
    for row in rows:
        if row["metric"] == "special_token_share":
            assert row["curve"] == []
        else:
            assert len(row["curve"]) == 11
            assert np.trapezoid(row["curve"]) / 10 == pytest.approx(row["value"], abs=1e-6)
    firsts = {(row["side"], row["metric"], row["method"], row["item"]): row["curve"] for row in rows}
    for side, method, item in {(side, method, item) for side, _, method, item in firsts}:
        removed, put_in = (firsts[side, metric, method, item] for metric in ("deletion", "insertion"))
        assert removed[0] == pytest.approx(put_in[-1], abs=1e-6)  # the whole input
        assert removed[-1] == pytest.approx(put_in[0], abs=1e-6)  # nothing of the input
    summary = run.summary()
    assert {metric for *_, metric, _ in summary.curves} == {"deletion", "insertion"}
    for (*family, method), curve in summary.curves.items():
        assert np.trapezoid(curve) / 10 == pytest.approx(summary.values[*family][method].mean(), abs=1e-6)
    reporting.write_report(run)
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("curves</h2>") == 2
    assert page.count("data:image/png;base64,") == 6
