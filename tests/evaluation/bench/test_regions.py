"""Benchmarks of regions: their rows are in the folder of the run, beside those of maps."""

import json
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.datasets.folder import Folder
from nibt.errors import Unsupported
from nibt.evaluation.bench.run import Benchmark
from nibt.metrics.localization import NounEnergy
from nibt.results.frames import DataFrame
from tests import tiny

CAPTIONS = ("red cat small mat", "a cat", "mat")
PLAN: dict[str, Any] = {
    "batch_size": 2,
    "methods": [{"name": "nib", "options": {"steps": 1}, "label": "nib"}, "occlusion"],
    "metrics": [
        "special_token_share",
        "noun_mass",
        "pair_deletion",
        {"name": "noun_energy", "options": {"on": "others"}},
    ],
    "targets": ["cosine", "logit"],
}


@pytest.fixture(scope="module")
def plan(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A plan with a tiny model and three pairs with boxes."""
    folder = tmp_path_factory.mktemp("pairs")
    boxes = [{"name": "cat", "box": [0, 0, 32, 48]}, {"name": "mat", "box": [32, 0, 32, 48]}]
    lines = []
    for item, caption in enumerate(CAPTIONS):
        tiny.image(seed=item).pil_image.save(folder / f"{item}.png")
        named = [box for box in boxes if box["name"] in caption]
        lines.append(json.dumps({"image": f"{item}.png", "caption": caption, "boxes": named}))
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    data = [{"name": "folder", "options": {"folder": str(folder)}}]
    return {**PLAN, "models": [{"name": str(clip_folder), "label": "tiny"}], "data": data}


@pytest.fixture(scope="module")
def run(plan: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return nibt.benchmark(plan, tmp_path_factory.mktemp("bench") / "RUN")


@pytest.fixture(scope="module")
def frame(run: Benchmark) -> DataFrame:
    return run.frame()


def read_pairs(plan: dict[str, Any]) -> list[Any]:
    return list(Folder(plan["data"][0]["options"]["folder"]))


@pytest.mark.slow
def test_rows_of_regions_are_those_of_measure(plan: dict[str, Any], frame: DataFrame) -> None:
    rows = frame[(frame.side == "regions") & (frame.method == "occlusion")]
    metrics = ["noun_mass", "pair_deletion", NounEnergy("others")]
    expected = nibt.measure(plan["models"][0]["name"], read_pairs(plan), metrics, "occlusion")
    assert [(row["item"], row["metric_label"], row["value"]) for row in rows.to_dict("records")] == [
        (row.item, row.label, pytest.approx(row.value, abs=1e-6, nan_ok=True)) for row in expected
    ]
    assert {"image", "text", "target"} == set(json.loads(rows.resolved.iloc[0]))
    assert all(len(curve) == 11 for curve in rows[rows.metric == "pair_deletion"].curve)


def test_regions_are_measured_for_the_target_cosine_only(frame: DataFrame) -> None:
    regions = frame[frame.side == "regions"]
    assert (set(regions.target), set(regions.method)) == ({"cosine"}, {"nib", "occlusion"}), "controls have none"
    assert set(frame[frame.side != "regions"].target) == {"cosine", "logit"}
    assert set(frame[frame.side != "regions"].metric) == {"special_token_share"}
    assert (frame.error == "").all()


@pytest.mark.slow
def test_rows_of_maps_do_not_change_beside_regions(plan: dict[str, Any], frame: DataFrame, tmp_path: Path) -> None:
    maps = nibt.benchmark({**plan, "metrics": ["special_token_share"]}, tmp_path / "RUN").frame()
    beside = frame[frame.side != "regions"].reset_index(drop=True)
    columns = [name for name in maps if name not in ("seconds", "curve")]
    assert beside[columns].equals(maps[columns])


@pytest.mark.slow
def test_a_run_with_regions_is_resumed(plan: dict[str, Any], run: Benchmark, tmp_path: Path) -> None:
    resumed, data = Benchmark.begin(plan, tmp_path / "RUN")
    with pytest.raises(KeyboardInterrupt):
        resumed.measure_missing(data, on_progress=_interrupt)
    assert 0 < len(resumed.missing_chunks()) < len(list(resumed.chunks()))
    resumed.measure_missing(data)
    columns = [name for name in run.frame() if name != "seconds"]
    assert str(resumed.table().select(columns).to_pylist()) == str(run.table().select(columns).to_pylist())


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_report_has_the_means_of_regions_with_intervals(run: Benchmark) -> None:
    report = nibt.write_report(run)
    table = report[report.index("## folder with tiny, regions") :]
    heading, _, nib = table.splitlines()[2:5]
    columns = "| method | views | noun_mass (higher) | pair_deletion (lower) | noun_energy on=others (lower) |"
    assert heading.startswith(columns)
    lines = run.summary().lines
    (line,) = lines[(lines.metric == "noun_mass") & (lines.method == "nib")].to_dict("records")
    assert nib.startswith(f"| nib | {line['views']} | {line['mean']:.3f} [{line['low']:.3f}, {line['high']:.3f}]")
    assert "| ms, image | ms, text | ms, regions |" in report.replace("| method ", "")
    latex = (run.folder / "report.tex").read_text()
    assert r"noun\_mass" in latex
    assert r"\toprule" in latex


def test_models_without_regions_have_errors_beside_their_maps(
    plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise Unsupported("words have no map")

    monkeypatch.setattr("nibt.evaluation.bench.cell.resolve_regions", unsupported)
    frame = nibt.benchmark({**plan, "methods": ["occlusion"], "targets": ["cosine"]}, tmp_path / "RUN").frame()
    assert set(frame[frame.side == "regions"].error) == {"words have no map"}
    assert frame[frame.side == "regions"].value.isna().all()
    assert set(frame[frame.side != "regions"].error) == {""}
