"""Tests of ``nibt.evaluation.bench.plan``."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.errors import BadInput, BadOption, CannotLoad, UnknownName
from nibt.evaluation.bench.plan import CONTROLS, Plan, plans
from nibt.evaluation.bench.validation import check_plan, dry_run, override_plan
from nibt.evaluation.measure import metrics_of
from tests import tiny
from tests.datasets.layouts import conceptual_captions, flickr8k, refcoco, tiny_imagenet
from tests.evaluation.bench.plans import BASE
from tests.helpers import Run
from tests.hub import CLOSED, Hub, point_to


@pytest.mark.parametrize("name", sorted(plans()))
def test_shipped_plans_are_valid(name: str) -> None:
    plan = Plan.read(name)
    assert set(CONTROLS) <= {one.name for one in plan.methods}
    if name in ("paper", "adaib"):
        assert len({one.name for one in plan.methods} - set(CONTROLS)) == {"paper": 8, "adaib": 6}[name]
    if plan.data[0].name == "scenes":
        assert check_plan(plan)
    else:
        with pytest.raises(BadInput, match=rf"data\[0\]: .*--data {plan.data[0].label}=FOLDER"):
            check_plan(plan)
    assert Plan.read(json.loads(json.dumps(plan.record()))).record() == plan.record()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metods": []}, "metods is unknown: did you mean 'methods'"),
        ({"methods": ["nibb"]}, r"methods\[0\]: unknown method 'nibb'. Did you mean 'nib'"),
        ({"methods": ["nib", {"name": "nib", "options": {"stepz": 1}}]}, r"methods\[1\]: unknown option 'stepz'"),
        ({"methods": [{"name": "nib", "variant": "papper"}]}, r"methods\[0\]: unknown variant 'papper'"),
        ({"methods": ["nib", "nib"]}, r"methods\[1\] has the label 'nib'"),
        ({"methods": [{"name": "nib", "grid": {"steps": 3}}]}, r"^methods\[0\].grid.steps must be a list \(got 3\)$"),
        ({"methods": [3]}, r"^methods\[0\] must be a name, a table with a name, or a Method \(got 3\)$"),
        ({"methods": [{"name": "nib", "steps": 3}]}, r"methods\[0\].steps is unknown"),
        (
            {"metrics": [{"name": "confidence_drop", "options": {"protocol": "none"}}]},
            r"metrics\[0\]: protocol must be",
        ),
        ({"metrics": [{"name": "deletion", "measured": "cosin"}]}, r"metrics\[0\]: unknown target 'cosin'"),
        ({"data": [{"name": "scenes", "options": {"fewest": 9}}]}, r"data\[0\]: fewest must be"),
        ({"data": [{"name": "coco"}]}, r"data\[0\]: coco needs its folder"),
        ({"targets": ["cosine", "sine"]}, r"targets\[1\]: unknown target 'sine'. Did you mean 'cosine'"),
        ({"sides": ["picture"]}, r"sides\[0\] must be 'image', 'text' or 'regions'"),
        (
            {"metrics": [{"name": "noun_mass", "measured": "logit"}]},
            r"metrics\[0\]: noun_mass measures the regions",
        ),
        (
            {"metrics": ["noun_mass"], "targets": ["logit"]},
            r"metrics\[0\]: .* \(got targets logit, measured ex",
        ),
        ({"batch_size": 0}, "batch_size must be greater than or equal to 1"),
        ({"seeds": ["a"]}, r"seeds\[0\] must be a valid integer"),
        ({"seeds": [0, 0]}, "seeds must have at least one entry, and no entry twice"),
        ({"seeds": [-1]}, r"seeds\[0\] must be greater than or equal to 0"),
        ({"targets": []}, "targets must have at least one entry"),
        ({"models": []}, "models must have at least 1 entry"),
        ({"models": [3]}, r"models\[0\] must be a name, a table with a name, or a Model"),
        ({"published": 1}, "published must be a valid boolean"),
        ({"models": [{"name": "scenes", "options": {"devise": "cpu"}}]}, r"models\[0\]: unknown option 'devise'"),
        ({"models": [{"name": "scenes", "options": {"device": "abacus"}}]}, r"models\[0\]: device 'abacus' is not av"),
        ({"models": ["scens"]}, r"models\[0\]: there is no model 'scens'.*Did you mean 'scenes'"),
        ({"models": ["scenes_generator"]}, r"models\[0\]: 'scenes_generator' writes text"),
        ({"targets": ["difference"]}, r"targets\[0\]: difference compares with one caption \(got 0\)"),
        ({"targets": ["cosine", "softmax"]}, r"targets\[1\]: softmax compares with captions \(got 0\)"),
        ({"targets": ["difference"], "against": ["a", "b"]}, r"compares with one caption \(got 2\)"),
        ({"targets": ["centered"], "models": ["org/name"]}, r"targets\[0\]: centered compares with captions \(got 0\)"),
        ({"methods": ["nib steps=few"]}, r"methods\[0\]: steps must be a whole number \(got 'few'\)"),
        ({"methods": ["nib image_views=0"]}, r"methods\[0\]: image_views must be between 1 and 16 \(got 0\)"),
    ],
)
def test_plan_rejects_a_bad_value_with_its_key(change: dict[str, Any], message: str) -> None:
    for check in (check_plan, *([] if "data" in change else [lambda plan: list(dry_run(plan))])):  # names missing data
        with pytest.raises((BadOption, BadInput, CannotLoad), match=message):
            check(Plan.read({**BASE, **change}))


def test_plan_expands_grids_and_stars() -> None:
    plan = Plan.read({**BASE, "methods": [{"name": "nib", "grid": {"steps": [2, 4], "layer": [1]}}, "*"]})
    labels = [one.label for one in plan.methods]
    assert labels[:2] == ["nib steps=2 layer=1", "nib steps=4 layer=1"]
    assert sorted(labels[2:]) == [name for name in nibt.available("methods") if name != "nib"]
    with pytest.raises(UnknownName, match="Did you mean 'quick'"):
        Plan.read("quik")


def test_metrics_of_regions_add_their_side_and_a_star_keeps_to_the_sides() -> None:
    plan = Plan.read({**BASE, "metrics": ["*"]})
    assert plan.sides == ("image", "text")
    assert [one.name for one in plan.metrics] == metrics_of(["image", "text"])
    plan = Plan.read({**BASE, "metrics": ["noun_mass", "energy"]})
    assert plan.sides == ("image", "text", "regions")
    assert Plan.read(plan.record()).record() == plan.record()
    plan = Plan.read({**BASE, "sides": ["regions"], "metrics": ["*"]})
    assert ([one.name for one in plan.metrics], plan.sides) == (metrics_of(["regions"]), ("regions",))


def test_plan_opens_files_and_folders_by_path(tmp_path: Path) -> None:
    tiny.image().pil_image.save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("image,text\na.png,a cat\na.png,a dog\n")
    for path in (tmp_path / "pairs.csv", tmp_path):
        entry = {"name": str(path), "options": {"caption": "text", "count": 1}, "label": "mine"}
        data = check_plan(Plan.read({**BASE, "data": [entry]}))["mine"]
        assert [pair.caption for pair in data] == ["a cat"]
    options = {"caption": "text", "seed": 3}
    data = check_plan(Plan.read({**BASE, "data": [{"name": str(tmp_path), "options": options}]}))[str(tmp_path)]
    assert {pair.caption for pair in data} == {"a cat", "a dog"}
    for change, message in (
        ({"name": str(tmp_path), "options": {"captoin": "text"}}, r"data\[0\]: unknown option 'captoin'"),
        ({"name": str(tmp_path / "pairs.tsv")}, r"data\[0\]: there are no pairs in .*no such file"),
        ({"name": str(tmp_path), "options": {"caption": "text", "count": 3}}, r"data\[0\]: count must be between"),
    ):
        with pytest.raises((BadOption, BadInput), match=message):
            check_plan(Plan.read({**BASE, "data": [change]}))


def test_override_plan_applies_the_options_of_the_command_line(tmp_path: Path) -> None:
    plan = override_plan(Plan.read("paper"), {"flickr8k": str(tmp_path)}, ["tiny_imagenet"], ["lite"], "cpu", 3)
    assert plan.about.endswith("3 data sets; without tiny_imagenet; with lite; 3 pairs of each data set")
    assert override_plan(Plan.read("paper"), {}).about == Plan.read("paper").about
    assert [(one.name, one.options.get("folder")) for one in plan.data] == [
        ("conceptual_captions", None),
        ("flickr8k", str(tmp_path)),
    ]
    assert (plan.models[0].name, plan.models[0].options, plan.count) == ("lite", {"device": "cpu"}, 3)
    with pytest.raises(BadOption, match="Did you mean 'flickr8k'"):
        override_plan(Plan.read("paper"), {"flickr": "."})


def test_adaib_has_the_protocol_of_its_paper() -> None:
    plan = Plan.read("adaib")
    assert plan.seeds == (42, 43, 44, 45, 46)
    assert [one.label for one in plan.data] == ["conceptual_captions", "flickr8k", "refcocog"]
    assert {"m2ib paper", "m2ib adaib", "nib paper"} <= {one.label for one in plan.methods}
    labels = [one.label for one in plan.metrics]
    assert "intersection_over_union threshold=0.5" in labels
    assert [label for label in labels if label.startswith("retrieval")] == [
        "retrieval_after_removal corrupted=query",
        "retrieval_after_removal corrupted=candidate",
    ]


@pytest.mark.parametrize("name", ["paper", "adaib"])
def test_dry_run_needs_no_data(name: str) -> None:
    plan = Plan.read(name)
    lines = list(dry_run(plan))
    assert lines[0] == "models (1): openai/clip-vit-base-patch32"
    missing = [line for line in lines if line.startswith("data ")]
    assert len(missing) == 3
    for choice, line in zip(plan.data, missing, strict=True):
        assert line.startswith(f"data {choice.label}: missing (")
        assert f"--data {choice.label}=FOLDER" in line
    assert lines[-1] == "explanations of each side: 0"
    with pytest.raises(BadOption, match=r"methods\[0\]: unknown option 'step'"):
        list(dry_run(Plan.read({**BASE, "methods": [{"name": "nib", "options": {"step": 3}}]})))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "adaib"])
def test_plan_runs_from_local_folders(name: str, tmp_path: Path) -> None:
    """One call measures small copies of the layouts, with the tiny model and few pairs."""
    plan = Plan.read(name)
    builders = {
        "conceptual_captions": conceptual_captions,
        "flickr8k": flickr8k,
        "tiny_imagenet": tiny_imagenet,
        "refcoco": refcoco,
    }
    folders = {choice.label: str(tmp_path / choice.label) for choice in plan.data}
    for choice in plan.data:
        builders[choice.name](tmp_path / choice.label)
    plan = override_plan(
        plan.model_copy(update={"seeds": plan.seeds[:1]}),
        folders,
        models=["scenes"],
        count=1,  # the plan's own counts are larger than these folders
    )
    lines = list(dry_run(plan))
    assert [line.partition(": ")[2] for line in lines if line.startswith("data ")] == ["1 pairs"] * 3
    assert lines[-1] == f"explanations of each side: {3 * len(plan.methods)}"
    methods = tuple(method for method in plan.methods if method.name in ("grad_cam", "center"))
    cheap = plan.model_copy(update={"methods": methods})
    run = nibt.benchmark(cheap, tmp_path / "run")
    frame = run.frame()
    assert set(frame.data) == set(folders)
    assert set(frame.metric_label) == {one.label for one in plan.metrics}
    drops = frame[(frame.metric_label == "confidence_drop protocol=correct") & (frame.side == "image")]
    assert drops.value.notna().all()


def test_dry_run_names_a_checkpoint_that_would_be_downloaded_and_its_size(
    hub: Hub, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/clip", clip_folder)
    plan = override_plan(Plan.read("quick"), {}, models=["org/clip"])
    read = ("model.safetensors", *(path.name for path in clip_folder.iterdir() if path.suffix in (".json", ".txt")))
    size = sum((clip_folder / name).stat().st_size for name in set(read))
    lines = [line for line in dry_run(plan) if line.startswith("model ")]
    assert lines == [f"model org/clip: missing ({size / 1e6:,.0f} MB would be downloaded)"]
    assert not any(file.endswith(".safetensors") for file in hub.downloads()), "weights are not downloaded"

    nibt.load_model("org/clip")
    assert not [line for line in dry_run(plan) if line.startswith("model ")]

    shutil.copytree(clip_folder, tmp_path / "half")
    (tmp_path / "half/model.safetensors").rename(tmp_path / "half/model.fp16.safetensors")
    hub.add("org/half", tmp_path / "half")
    half = override_plan(plan, {}, models=["org/half"])
    (line,) = [line for line in dry_run(half) if line.startswith("model ")]
    assert line.startswith(
        "model org/half: cannot be loaded with these options (cannot load the model 'org/half': it has"
    )
    half.models[0].options["variant"] = "fp16"
    assert lines == [line.replace("half", "clip") for line in dry_run(half) if line.startswith("model ")]

    point_to(CLOSED, tmp_path / "cache", monkeypatch)
    (line,) = [line for line in dry_run(override_plan(plan, {}, models=["org/other"])) if line.startswith("model ")]
    assert line.startswith("model org/other: missing, of unknown size (cannot load the model 'org/other'")


def test_dry_run_on_the_command_line(run: Run, tmp_path: Path) -> None:
    refcoco(tmp_path)
    code, out, _ = run("bench", "quick", "--dry-run")
    assert code == 0
    assert "data scenes: 32 pairs" in out
    code, out, _ = run("bench", "paper", "--dry-run", "--data", f"flickr8k={tmp_path}", "--without", "tiny_imagenet")
    assert code == 0
    assert "data conceptual_captions: missing" in out
    assert "data flickr8k: missing (data[2]: Flickr8k cannot be read from" in out
    (tmp_path / "mine.txt").touch()
    for out in (tmp_path, tmp_path / "mine.txt"):
        code, _, errors = run("bench", "quick", "--dry-run", "-o", out)
        assert (code, "choose a new folder" in errors or "is a file" in errors) == (2, True)
    assert run("bench", "quick", "--dry-run", "-o", tmp_path / "new")[0] == 0
    assert not (tmp_path / "new").exists()
    code, _, errors = run("bench", "quick")
    assert code == 2
    assert "a run needs a folder: give --out RUN" in errors


def test_quick_takes_no_metric_that_it_does_not_name() -> None:
    """So a new metric does not slow it down."""
    text = (Path(nibt.__file__).parent / "evaluation/bench/plans/quick.toml").read_text(encoding="utf-8")
    named = {entry if isinstance(entry, str) else entry["name"] for entry in tomllib.loads(text)["metrics"]}
    assert "*" not in named
    assert {one.name for one in Plan.read("quick").metrics} == named


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_what_is_no_file_is_no_plan(path: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"a plan must be a file in TOML \('{path}' is no regular file\)"):
        nibt.benchmark(path, tmp_path / "run")


def test_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    for call in (lambda: nibt.benchmark("a" * 10_000, tmp_path / "run"), lambda: nibt.Job.open("a" * 10_000)):
        with pytest.raises(BadInput, match="must have names of at most 255 characters"):
            call()
