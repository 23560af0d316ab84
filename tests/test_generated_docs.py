"""What ``docs/generate.py`` writes is current and complete."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nibt
from nibt import registry
from nibt.evaluation.bench.plan import Plan
from nibt.methods.base import pair_methods
from tests.documents import load_docs_module
from tests.helpers import ROOT
from tests.metrics.known_maps import FIRST, LAST, on

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load_docs_module("generate")


def test_generated_files_are_current(generate: ModuleType) -> None:
    for path, text in generate.files().items():
        assert path.exists(), f"{path.name}: run python docs/generate.py"
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python docs/generate.py"


def test_each_method_has_a_page_and_no_other(generate: ModuleType) -> None:
    pages = {path.stem for path in (DOCS / "reference" / "methods").glob("*.md")} - {"index"}
    assert pages == set(generate.own("methods"))


@pytest.fixture
def skeleton(tmp_path: Path) -> list[Path]:
    """The metric, the test and the page of a skeleton, in a folder like a clone."""
    for folder in ("src/nibt/metrics", "tests/metrics", "docs/reference/metrics"):
        (tmp_path / folder).mkdir(parents=True)
    listed = "docs/reference/metrics/index.md"
    shutil.copy(ROOT / listed, tmp_path / listed)
    return load_docs_module("skeleton").write(tmp_path, "height_of_map")


def test_ruff_finds_nothing_in_the_skeleton_of_a_metric(skeleton: list[Path]) -> None:
    pytest.importorskip("ruff", reason="needs ruff: pip install -e '.[dev]'")
    metric, test, _ = skeleton
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", ROOT / "pyproject.toml", metric, test]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_skeleton_of_a_metric_has_its_values_and_its_page(
    generate: ModuleType, skeleton: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    metric, _, page = skeleton
    assert "`height_of_map`" in page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "height_of_map"}
    exec(metric.read_text(encoding="utf-8"), names)
    for scores, least in ((FIRST, 0.8), (LAST, 0.0)):
        value = float(names["HeightOfMap"]()(on(scores)))
        assert least <= value <= least + 0.2
    monkeypatch.setattr(registry, "available", lambda _: ["height_of_map"])
    monkeypatch.setattr(registry, "_files", lambda _: {"height_of_map": metric})
    assert {"Use it when", "Avoid it when", "Source"} <= set(generate.parts("metrics", "height_of_map").sections)


def test_the_list_of_metrics_names_each_of_them(generate: ModuleType) -> None:
    text = (DOCS / "reference" / "metrics" / "index.md").read_text(encoding="utf-8")
    for name in generate.own("metrics"):
        assert f"`{name}`" in text
        assert generate.metric_page(name).startswith(f"# {name}\n")


def test_pages_of_protocols_have_every_step(generate: ModuleType) -> None:
    assert {"legrad", "grad_eclip", "clip_surgery"} <= set(generate.protocols())
    for name in generate.protocols():
        page = generate.protocol_page(name)
        for step in Plan.read(name).protocol:
            assert all(text.replace("|", "\\|") in page for text in (step.step, step.authors, step.source, step.here))


def test_each_picture_and_time_is_of_a_method(generate: ModuleType) -> None:
    """A new method has them after ``python docs/figures.py METHOD``."""
    costs = json.loads(generate.COSTS.read_text())
    drawn = {path.stem for path in generate.COSTS.parent.glob("*.webp")}
    assert drawn == costs["methods"].keys() <= {*pair_methods()}
    assert all(times["scenes"]["seconds"] > 0 for times in costs["methods"].values())
    assert sum(path.stat().st_size for path in generate.COSTS.parent.glob("*.webp")) < 500_000


def test_pages_of_methods_state_defaults_and_results(generate: ModuleType) -> None:
    page = generate.method_page("nib")
    assert "- `layer` (image: the last one or 0.65 of the depth), `layer=0` (text): One layer or several" in page
    assert "pointing 0.96" in page
    assert "$$z(\\lambda) = r + \\lambda (h - r)$$" in page


def test_index_names_every_command_plugin_and_page(generate: ModuleType) -> None:
    index = json.loads((DOCS / "index.json").read_text(encoding="utf-8"))
    assert "--against" in {name for option in index["commands"]["explain"]["options"] for name in option["names"]}
    assert set(nibt.__all__) == set(index["python"])
    assert all(one["about"] for one in index["python"].values())
    assert all(one["about"] for kind in index["plugins"].values() for one in kind.values())
    assert not re.search(r"\$|\\", " ".join(_abouts(index["plugins"]))), "terminals print these: no LaTeX"
    for entry in index["pages"]:
        assert generate.source_page(entry["path"]).exists()
    for kind in ("methods", "metrics"):
        assert all((DOCS / one["page"]).exists() for one in index["plugins"][kind].values())


def _abouts(entry: dict[str, Any]) -> Iterator[str]:
    for key, value in entry.items():
        if key == "about":
            yield value
        elif isinstance(value, dict):
            yield from _abouts(value)


def test_index_has_types_values_and_true_defaults_of_options(generate: ModuleType) -> None:
    index = generate.index({})
    explain = {option["names"][0]: option for option in index["commands"]["explain"]["options"]}
    assert (explain["--model"]["default"], explain["--out"]["default"]) == (
        "lite",
        "a picture or a page, and a JSON file, in the current folder",
    )
    assert explain["--batch-size"]["range"] == "between 1 and 1,000,000"
    assert explain["--target"]["plugins"] == "targets"
    unset = {(name, one["names"][0]) for name, one in _options(index) if one["default"] is None}
    assert unset == {
        ("explain", "--labels"),
        ("explain", "--decisive"),
        ("explain", "--parts"),
        ("explain", "--replace"),
        ("explain", "--compare"),
    } | {
        ("answer", "--against"),
        ("answer", "--decisive"),
        ("audit", "--against"),
        ("bench", "--device"),
        ("calibrate", "--captions"),
    }, "state the default in the help, as Default: VALUE. or Required."
    assert all(one["type"] for _, one in _options(index))
    steps = index["plugins"]["methods"]["nib"]["options"]["steps"]
    assert (steps["default"], steps["type"]) == ({"image": 4, "text": 6}, "integer")
    assert index["plugins"]["metrics"]["deletion"]["options"]["hide"]["choices"] == ["mean", "blur", "noise"]
    assert index["python"]["explain"]["signature"].startswith("explain(model: ")
    assert " at 0x" not in json.dumps(index), "addresses differ by run"


def _options(index: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, option) for name, command in index["commands"].items() for option in command["options"]]


@pytest.mark.slow
def test_llms_txt_has_calls_with_their_output_and_existing_links(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "llms.txt", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^# (.*)$", code, re.MULTILINE)
    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)$", text, re.MULTILINE)
    assert len(links) > 30
    assert all((DOCS / path).resolve().exists() for path in links)
    assert words(text) <= 600


def words(text: str) -> int:
    return len(text.split())


def test_links_of_documents_lead_to_files() -> None:
    """The site shows a link out of its folder as a name, so mkdocs does not check it."""
    pages = [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "src", "recipes") for page in (ROOT / folder).rglob("*.md")),
    ]
    for page in pages:
        for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"
