"""Tests of ``nibt bench`` and ``nibt show``, on scenes."""

import json
from pathlib import Path

import pytest

from tests.helpers import Run, file_digests

pytest.importorskip("pyarrow", reason="a benchmark is stored in Parquet files")


def test_bench_is_measured_reported_and_resumed(run: Run, clip_folder: Path) -> None:
    plan = [
        f"models = [{{ name = {json.dumps(str(clip_folder))} }}]",
        'methods = ["occlusion", "center"]',
        'data = [{ name = "scenes", options = { count = 2 } }]',
        'metrics = ["pointing_game", "deletion"]',
    ]
    Path("plan.toml").write_text("\n".join(plan))
    code, out, err = run("bench", "plan.toml", "--out", "RUN")
    assert code == 0, err
    assert "for the results: nibt show RUN" in out
    parts = file_digests(Path("RUN/parts"))
    assert run("bench", "plan.toml", "--out", "RUN")[0] == 0
    assert file_digests(Path("RUN/parts")) == parts, "nothing is measured again"
    code, out, err = run("show", "RUN")
    assert code == 0, err
    for name in ("occlusion", "center", "pointing_game", "deletion"):
        assert name in out
    assert {"report.md", "report.csv", "report.tex", "report.html"} <= {path.name for path in Path("RUN").iterdir()}

    for words in ([0], ["--verify"], ["-o", "x.png"], [0, "-o", "x.png"], ["--draw", "style=heatmap"]):
        code, _, err = run("show", "RUN", *words)
        assert code == 2
        assert "a row, --verify, --out and --draw are for a job (RUN is a run of nibt bench): leave them out" in err
