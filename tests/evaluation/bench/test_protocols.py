"""Plans that repeat published evaluations run on small copies of their data sets."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.datasets import _synsets
from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.bench.report import write_report
from nibt.evaluation.bench.validation import dry_run, override_plan
from nibt.metrics import _labels
from tests.datasets import layouts
from tests.datasets.test_imagenet_segmentation import segmentation_file

LAYOUTS: dict[str, Callable[[Path], None]] = {
    "imagenet_segmentation": segmentation_file,
    "open_images": layouts.open_images,
    "imagenet": layouts.imagenet,
    "coco": layouts.coco,
    "imagenet_s": layouts.imagenet_s,
    "pascal_voc": layouts.pascal_voc,
    "voc20": layouts.pascal_voc_segmentation,
    "voc21": layouts.pascal_voc_segmentation,
    "context59": layouts.pascal_context,
    "context60": layouts.pascal_context,
    "coco_stuff": layouts.coco_stuff,
    "ade20k": layouts.ade20k,
}
NEEDED = {
    "legrad": {
        "imagenet_segmentation": {"pixel_accuracy", "mean_iou", "average_precision both_classes=True"},
        "open_images": {"point_iou"},
        "imagenet": {f"{way}, {label} class" for way in ("positive", "negative") for label in ("predicted", "target")},
    },
    "grad_eclip": {
        "imagenet": {f"{change} top {top}" for change in ("deletion", "insertion") for top in (1, 5, 10)},
        "coco": {"pointing_game", "energy"},
        "imagenet_s": {"pixel_accuracy", "average_precision", "intersection_over_union threshold=0.5"},
    },
    "clip_surgery": {
        "pascal_voc": {"mean_iou", "score_contrast", "label_precision template=openai"},
        "coco": {"label_precision template=openai score=image"},
        "imagenet_s": {"mean_iou", "score_contrast"},
    },
    "segmentation": {
        data: {"mIoU", "mIoU, background below 0.1"}
        for data in ("voc20", "voc21", "context59", "context60", "coco_stuff", "ade20k")
    },
}
"""The metrics that each data set of a plan must have a number of."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NEEDED))
def test_protocols_run_on_small_copies_of_their_data(
    name: str, tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two captions of a class, and two names in place of OpenAI's thousand."""
    monkeypatch.setattr(_labels, "openai_templates", lambda: ("a photo of a {}.", "art of the {}."))
    monkeypatch.setattr(_synsets, "openai_names", lambda: ("tench", "tabby cat"))
    folders = {}
    for data in NEEDED[name]:
        LAYOUTS[data](tmp_path / data)
        folders[data] = str(tmp_path / data)
    plan = override_plan(Plan.read(name), folders, models=[str(clip_folder)], count=3)
    classes = {"imagenet_s": {"classes": 919}} if name == "clip_surgery" else {}
    models = tuple(model.model_copy(update={"options": {}}) for model in plan.models)  # larger inputs are slow
    data_sets = tuple(data.with_options(**classes.get(data.name, {})) for data in plan.data)
    plan = plan.model_copy(update={"models": models, "data": data_sets})
    run = nibt.benchmark(plan, tmp_path / "RUN")
    assert run.failures()[0] == 0, run.frame()["error"].unique()
    lines = run.summary().lines
    for data, metrics in NEEDED[name].items():
        of_data = lines[(lines["data"] == data) & (lines["method"] == "nib")].set_index("metric")["mean"]
        for metric in metrics:
            assert not math.isnan(of_data[metric]), f"{data}: {metric}"
    report = write_report(run)
    assert "## Protocol" in report
    assert all(step.step in report for step in plan.protocol)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_dry_run_says_which_data_are_missing(name: str) -> None:
    lines = list(dry_run(Plan.read(name)))
    for data in NEEDED[name]:
        assert any(line.startswith(f"data {data}: missing (") and f"--data {data}=FOLDER" in line for line in lines)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_steps_of_protocols_say_where_and_what(name: str) -> None:
    steps: list[Any] = list(Plan.read(name).protocol)
    assert len({step.step for step in steps}) == len(steps) >= 6


def test_another_model_is_loaded_with_the_options_of_the_plan() -> None:
    plan = override_plan(Plan.read("segmentation"), {}, models=["lite"])
    assert plan.models[0].name == "lite"
    assert plan.models[0].options == {"resize": "whole", "image_size": 336}
    assert override_plan(Plan.read("legrad"), {}, models=["lite"]).models[0].options == {}
