"""The benchmark: plans are checked before anything is loaded, runs resume bit by bit, and reports say what is so."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import nibt
import tiny
from helpers import check_page
from nibt.cli import main
from nibt.errors import BadInput, BadOption, OtherRequest, UnknownName
from nibt.evaluation.bench import cell as work
from nibt.evaluation.bench import report as reporting
from nibt.evaluation.bench.headline import headlines, published, published_gains
from nibt.evaluation.bench.plan import CONTROLS, Plan, plans
from nibt.evaluation.bench.run import Run
from nibt.evaluation.bench.store import COLUMNS, Store, fingerprint
from nibt.evaluation.bench.summary import Group, Series, Summary
from nibt.evaluation.bench.validation import changed, checked
from nibt.evaluation.statistics import holm, interval, paired_test
from nibt.progress import Progress

SCENES = {"name": "scenes", "options": {"count": 6, "seed": 1}}
BASE: dict[str, Any] = {"models": ["scenes"], "methods": ["nib"], "data": [SCENES], "metrics": ["confidence_drop"]}


@pytest.fixture
def pairs_folder(tmp_path: Path) -> Path:
    """Six pairs in a folder; the image of the third is broken."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for item in range(6):
        tiny.image(seed=item).pil_image.save(folder / f"{item}.png")
    (folder / "2.png").write_bytes(b"no image")
    lines = [json.dumps({"image": f"{item}.png", "caption": tiny.CAPTIONS[item % 4]}) for item in range(6)]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def plan(clip_folder: Path, pairs_folder: Path) -> dict[str, Any]:
    """A plan of a tiny model."""
    return {
        "about": "tiny",
        "batch_size": 4,
        "models": [{"name": str(clip_folder), "label": "tiny"}],
        "methods": [
            "nib",
            {"name": "nib", "options": {"steps": 2}},
            {"name": "m2ib", "options": {"steps": 1}, "first": 5},
        ],
        "data": [{"name": "folder", "label": "pairs", "options": {"folder": str(pairs_folder)}}],
        "metrics": [
            "special_share",
            "corner_share",
            {"name": "confidence_drop", "options": {"protocol": "paper"}},
            {"name": "confidence_increase", "options": {"protocol": "paper"}},
        ],
    }


# Plans


@pytest.mark.parametrize("name", sorted(plans()))
def test_plans_that_ship_hold(name: str) -> None:
    plan = Plan.read(name)
    assert set(CONTROLS) <= {one.name for one in plan.methods}
    if name == "paper":
        assert len({one.name for one in plan.methods} - set(CONTROLS)) == 8
        with pytest.raises(BadInput, match=r"data\[0\]: .*--data conceptual_captions=FOLDER"):
            checked(plan)
    else:
        assert checked(plan)
    assert Plan.read(json.loads(json.dumps(plan.record()))) == plan


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metods": []}, "unknown plan key 'metods'. Did you mean 'methods'"),
        ({"methods": ["nibb"]}, r"methods\[0\]: unknown method 'nibb'. Did you mean 'nib'"),
        ({"methods": ["nib", {"name": "nib", "options": {"stepz": 1}}]}, r"methods\[1\]: unknown option 'stepz'"),
        ({"methods": [{"name": "nib", "variant": "papper"}]}, r"methods\[0\]: unknown variant 'papper'"),
        ({"methods": ["nib", "nib"]}, r"methods\[1\] has the label 'nib'"),
        ({"methods": [{"name": "nib", "options": {"layer": "auto"}}]}, r"methods\[0\]: a layer cannot be auto"),
        ({"methods": [{"name": "nib", "grid": {"steps": 3}}]}, r"methods\[0\].grid must be a table of lists"),
        ({"methods": [{"name": "nib", "steps": 3}]}, r"methods\[0\].steps is not known here"),
        (
            {"metrics": [{"name": "confidence_drop", "options": {"protocol": "none"}}]},
            r"metrics\[0\]: protocol must be",
        ),
        ({"metrics": [{"name": "deletion", "measured": "cosin"}]}, r"metrics\[0\]: unknown target 'cosin'"),
        ({"data": [{"name": "scenes", "options": {"fewest": 9}}]}, r"data\[0\]: fewest and most"),
        ({"data": [{"name": "coco"}]}, r"data\[0\]: coco needs its folder"),
        ({"targets": ["cosine", "sine"]}, r"targets\[1\]: unknown target 'sine'. Did you mean 'cosine'"),
        ({"sides": ["picture"]}, "sides must be among image, text"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"seeds": ["a"]}, "seeds must be a list of whole numbers"),
        ({"models": [{"name": "scenes", "options": {"devise": "cpu"}}]}, r"models\[0\]: unknown option 'devise'"),
    ],
)
def test_a_plan_is_refused_with_its_key(change: dict[str, Any], told: str) -> None:
    with pytest.raises((BadOption, BadInput), match=told):
        checked(Plan.read({**BASE, **change}))


def test_what_only_a_model_refuses_is_told_before_anything_is_measured(tmp_path: Path, plan: dict[str, Any]) -> None:
    plan["methods"] = ["nib", {"name": "nib", "options": {"layer": 99}}]
    with pytest.raises(BadOption, match=r"methods\[1\]: layer must lie in 0..\d"):
        nibt.benchmark(plan, tmp_path / "run")
    assert not list((tmp_path / "run" / "parts").iterdir())


def test_grids_and_every_other_part_are_written_out() -> None:
    told = Plan.read({**BASE, "methods": [{"name": "nib", "grid": {"steps": [2, 4], "layer": [1]}}, "*"]})
    labels = [one.label for one in told.methods]
    assert labels[:2] == ["nib steps=2 layer=1", "nib steps=4 layer=1"]
    assert sorted(labels[2:]) == [name for name in nibt.available("methods") if name != "nib"]
    with pytest.raises(UnknownName, match="Did you mean 'quick'"):
        Plan.read("quik")


def test_a_command_line_changes_a_plan(tmp_path: Path) -> None:
    told = changed(Plan.read("paper"), {"flickr8k": str(tmp_path)}, ["tiny_imagenet"], ["lite"], "cpu", 3)
    assert [(one.name, one.options.get("folder")) for one in told.data] == [
        ("conceptual_captions", None),
        ("flickr8k", str(tmp_path)),
    ]
    assert (told.models[0].name, told.models[0].options, told.first) == ("lite", {"device": "cpu"}, 3)
    with pytest.raises(BadOption, match="Did you mean 'flickr8k'"):
        changed(Plan.read("paper"), {"flickr": "."})


# Runs

KILLED = """
import os, random, signal, sys, time
import nibt
from nibt.evaluation.bench.run import Run
from nibt.evaluation.bench.store import fingerprint
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
runs = [Run.open(out + name) for name in ("/whole", "/killed")]
print(there, len(list(runs[0].chunks())))
print(*(fingerprint(run.table()) for run in runs), *(run.table().num_rows for run in runs))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks, so that torch is loaded once")
def test_a_killed_run_resumes_bit_by_bit(tmp_path: Path, plan: dict[str, Any]) -> None:
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


def test_a_bad_pair_is_recorded_and_costs_no_other(tmp_path: Path, plan: dict[str, Any], monkeypatch: Any) -> None:
    measure = work.measure

    def choosy(model: Any, pairs: Any, *rest: Any, **options: Any) -> Any:
        if any(pair.caption == tiny.CAPTIONS[1] for pair in pairs):
            raise BadInput("this caption cannot be")
        return measure(model, pairs, *rest, **options)

    monkeypatch.setattr(work, "measure", choosy)
    run = nibt.benchmark(plan, tmp_path / "run")
    rows = run.table().to_pylist()
    own = [row for row in rows if row["method_label"] == "nib"]
    assert len(own) == 6 * (4 + 3)  # corner_share is of images only
    errors = {row["item"]: row["error"] for row in own}
    assert "2.png" in errors[2]
    assert errors[1] == errors[5] == "this caption cannot be"
    assert errors[0] == errors[3] == errors[4] == ""
    assert all(np.isnan(row["value"]) for row in own if row["error"])
    assert all(np.isfinite(row["value"]) and row["seconds"] > 0 for row in own if not row["error"])
    assert {row["item"] for row in rows if row["method"] == "m2ib"} == set(range(5))
    summary = Summary.of(run.plan, run.table())
    assert {(item, error) for _, item, error in summary.failures} == {(item, errors[item]) for item in (1, 2, 5)}
    assert {(line.count, line.failed) for line in summary.lines} == {(3, 3), (3, 2)}


def test_a_bug_stops_and_the_run_goes_on_when_it_is_mended(
    tmp_path: Path, plan: dict[str, Any], monkeypatch: Any
) -> None:
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
    begun = Run.open(tmp_path / "run")
    assert len(begun.left()) == len(list(begun.chunks())) - 2
    assert "The run is not whole: 6 of 8 chunks" in " ".join(reporting._about(begun))
    told: list[Progress] = []
    nibt.benchmark(plan, tmp_path / "run", on_progress=told.append)
    assert len(told) == len(list(begun.chunks())) - 2
    assert not begun.left()
    assert fingerprint(begun.table()) == fingerprint(nibt.benchmark(plan, tmp_path / "again").table())
    sessions = begun.provenance["sessions"]
    assert len(sessions) == 2
    assert sessions[0]["versions"]["torch"]
    assert re.fullmatch("[0-9a-f]{16}", begun.provenance["models"]["tiny"]["weights_hash"])
    with pytest.raises(OtherRequest, match=r"plan\.batch_size: 4 \(now 3\)"):
        nibt.benchmark({**plan, "batch_size": 3}, tmp_path / "run")


def test_the_rows_are_those_of_measure(tmp_path: Path, plan: dict[str, Any], clip_folder: Path) -> None:
    plan |= {
        "data": [SCENES],
        "batch_size": 6,
        "methods": [{"name": "nib", "options": {"steps": 2}}],
        "metrics": ["special_share", {"name": "deletion", "measured": "softmax"}],
    }
    found = nibt.benchmark(plan, tmp_path / "run").table().to_pylist()
    pairs = list(nibt.registry.find("datasets", "scenes")(**SCENES["options"]))
    model = nibt.load_model(clip_folder)
    for name, measured in (("special_share", "explained"), ("deletion", "softmax")):
        rows = nibt.measure(model, pairs, [name], "nib", measured=measured, steps=2, seed=0)
        own = {
            (row["item"], row["side"]): row["value"] for row in found if (row["metric"], row["method"]) == (name, "nib")
        }
        assert own == {(row.item, row.side): row.value for row in rows}
        drawn = {
            (row["item"], row["side"]): tuple(row["curve"])
            for row in found
            if (row["metric"], row["method"]) == (name, "nib")
        }
        assert drawn == {(row.item, row.side): row.curve for row in rows}
    resolved = json.loads(next(row["resolved"] for row in found if row["method"] == "nib"))
    assert (resolved["steps"], resolved["baseline"], resolved["target"]) == (2, "blank", "cosine")


# Reports


def made(
    folder: Path, plan: Plan, numbers: dict[tuple[str, str, str], list[float]], seconds: dict[str, float]
) -> Summary:
    """A summary of rows written by hand: by side, metric and method the numbers of pairs."""
    blank = dict.fromkeys(COLUMNS, "") | {"curve": [], "model": "m", "data": "d", "target": "cosine", "seed": 0}
    rows = [
        {
            **blank,
            "side": side,
            "metric_label": metric,
            "method_label": method,
            "item": item,
            "value": value,
            "seconds": seconds[method],
        }
        for (side, metric, method), values in numbers.items()
        for item, value in enumerate(values)
    ]
    store = Store(folder)
    store.add("part", rows)
    return Summary.of(plan, store.table(["part", "lacking"]))


def test_numbers_of_a_report_by_hand(tmp_path: Path) -> None:
    plan = Plan.read(
        {
            **BASE,
            "methods": ["nib", "m2ib", "rise"],
            "metrics": ["confidence_drop", "confidence_increase"],
            "sides": ["image"],
        }
    )
    drops = {"nib": [1.0, 2.0, 3.0, 0.0], "m2ib": [2.0, 4.0, 3.0, 3.0], "rise": [1.0, 2.0, 3.0, np.nan]}
    increases = {"nib": [100.0, 100.0, 0.0, 0.0], "m2ib": [0.0, 100.0, 0.0, 0.0], "rise": [0.0, 0.0, 0.0, 0.0]}
    numbers = {("image", "confidence_drop", name): values for name, values in drops.items()}
    numbers |= {("image", "confidence_increase", name): values for name, values in increases.items()}
    summary = made(tmp_path, plan, numbers, {"nib": 0.5, "m2ib": 2.0, "rise": 1.0})
    lines = {(line.of.metric, line.of.method): line for line in summary.lines}
    drop = lines["confidence_drop", "m2ib"]
    assert (drop.mean[0], drop.count, drop.won, drop.seconds) == (3.0, 4, 0.125, 2.0)  # one tie, three losses
    assert lines["confidence_drop", "rise"].count == 3
    assert lines["confidence_drop", "rise"].won == 0.5
    assert np.isnan(lines["confidence_drop", "nib"].p)
    raw = stats.wilcoxon(np.subtract(drops["m2ib"], drops["nib"]), zero_method="zsplit", method="approx").pvalue
    assert drop.p == pytest.approx(min(1, 2 * raw))  # the other p is 1
    by_recipe = {(one.nib, one.what): one for one in headlines(summary)}
    image = by_recipe["nib", "image"]
    assert image.gain[0] == pytest.approx(((3 - 1.5) / 3 + (50 - 25) / 50) / 2)
    assert image.of_other[0] == pytest.approx(((3 - 1.5) / 3 + (50 - 25) / 25) / 2)
    assert image.gain[1] <= image.gain[0] <= image.gain[2]
    assert by_recipe["nib", "speed"].gain == pytest.approx((0.75, 0.75, 0.75))
    assert by_recipe["nib", "speed"].of_other[0] == pytest.approx(3)
    assert summary.pairs(
        *(Series(Group("m", "d", "cosine"), "image", "confidence_drop", name) for name in ("nib", "rise"))
    )


def test_intervals_and_tests_are_those_of_scipy() -> None:
    values, others = np.random.default_rng(3).normal(size=(2, 40))
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert interval([*values, np.nan]) == pytest.approx((values.mean(), theirs.low, theirs.high))
    assert paired_test(values, others) == pytest.approx(stats.wilcoxon(values, others, zero_method="zsplit").pvalue)
    few, others_few = np.round(values[:9], 1), np.round(others[:9], 1)
    few[3] = others_few[3]
    exact = stats.wilcoxon(few, others_few, zero_method="zsplit").pvalue  # all ways to choose signs
    assert paired_test(few, others_few) == pytest.approx(exact, abs=0.05)
    assert paired_test(values, values) == 1
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, float("nan"), 0.03])[::2] == pytest.approx([0.2, 0.06])


def test_the_published_headline_is_rederived() -> None:
    assert len(published()) == 3 * 8 * 5
    assert published_gains() == pytest.approx({"image": 0.09, "text": 0.5883, "speed": 0.6395}, abs=5e-5)
    assert published_gains(of_other=True) == pytest.approx({"image": 0.0919, "text": 0.7397, "speed": 1.808}, abs=5e-4)


def test_every_form_of_a_report(tmp_path: Path, plan: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    plan |= {"published": True, "data": [{**plan["data"][0], "label": "flickr8k"}]}
    nibt.benchmark(plan, tmp_path / "run")
    with pytest.raises(SystemExit) as left:
        main(["report", str(tmp_path / "run")])
    assert not left.value.code
    printed = capsys.readouterr().out
    text = (tmp_path / "run" / "report.md").read_text()
    assert text in printed
    for told in ("published / measured here", "1.450 / ", "recipe", "2.png", "ones", "random", "centre", "weights "):
        assert told in text, told
    page = check_page((tmp_path / "run" / "report.html").read_text())
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r"(src|href)=.https?:", page)
    table = (tmp_path / "run" / "report.tex").read_text()
    assert table.count(r"\begin{tabular}") == table.count(r"\end{tabular}") == text.count("\n## ")
    assert "confidence\\_drop protocol=paper" in table
    assert len((tmp_path / "run" / "report.csv").read_text().splitlines()) == 1 + 6 * (4 + 3)


def test_curves_have_the_numbers_as_their_areas(tmp_path: Path, plan: dict[str, Any]) -> None:
    """Of each pair in the store, and of the mean curve, which is drawn."""
    plan |= {"data": [SCENES], "methods": ["nib"], "metrics": ["deletion", "insertion", "special_share"]}
    run = nibt.benchmark(plan, tmp_path / "run")
    rows = run.table().to_pylist()
    for row in rows:
        if row["metric"] == "special_share":
            assert row["curve"] == []
        else:
            assert len(row["curve"]) == 11
            assert np.trapezoid(row["curve"]) / 10 == pytest.approx(row["value"], abs=1e-6)
    firsts = {(row["side"], row["metric"], row["method"], row["item"]): row["curve"] for row in rows}
    for side, method, item in {(side, method, item) for side, _, method, item in firsts}:
        removed, put_in = (firsts[side, metric, method, item] for metric in ("deletion", "insertion"))
        assert removed[0] == pytest.approx(put_in[-1], abs=1e-6)  # all of the input
        assert removed[-1] == pytest.approx(put_in[0], abs=1e-6)  # nothing of it
    summary = Summary.of(run.plan, run.table())
    assert {series.metric for series in summary.curves} == {"deletion", "insertion"}
    for series, curve in summary.curves.items():
        assert np.trapezoid(curve) / 10 == pytest.approx(np.mean(list(summary.values[series].values())), abs=1e-6)
    reporting.write_report(run)
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("curves</h2>") == 2
    assert page.count("data:image/png;base64,") == 6


# A stranger


def blocks(page: str) -> dict[str, str]:
    """The code blocks of a page that stand for files, and its commands."""
    found = re.findall(r"<!-- (?:file: )?(\S+) -->\n```\w+\n(.*?)```", page, re.DOTALL)
    return dict(found)


def test_a_strangers_method_needs_no_edit(tmp_path: Path) -> None:
    parts = blocks((Path(nibt.__file__).parents[2] / "docs" / "extending.md").read_text())
    commands = parts.pop("commands")
    for name, text in parts.items():
        (tmp_path / name).write_text(text)
    project = tomllib.loads(parts["pyproject.toml"])["project"]
    installed = tmp_path / "strangers_method-1.0.dist-info"  # what pip makes of it
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    points = project["entry-points"]["nibt.methods"]
    (installed / "entry_points.txt").write_text("[nibt.methods]\n" + "\n".join(f"{a} = {b}" for a, b in points.items()))
    code = """
import shlex, sys
from nibt.cli import main
for line in sys.argv[1].splitlines():
    try:
        main(shlex.split(line)[1:])
    except SystemExit as left:
        assert not left.code, line
"""
    done = subprocess.run(
        [sys.executable, "-c", code, commands],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^distance .* none: an example", done.stdout, re.MULTILINE)
    told = json.loads((tmp_path / "cat.json").read_text())["method"]
    assert (told["name"], told["image"]["power"]) == ("distance", 2)
    assert re.search(r"^\| distance power=2 \| \d", (tmp_path / "RUN" / "report.md").read_text(), re.MULTILINE)
