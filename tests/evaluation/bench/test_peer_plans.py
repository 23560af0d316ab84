"""The plans with the protocols of peers run on small copies of the layouts of their data."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import nibt
from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.bench.report import write_report
from nibt.evaluation.bench.validation import dry_run, override_plan
from tests.datasets.layouts import coco, conceptual_captions, image, ms_cxr_json, write, write_json
from tests.helpers import Record, Run, assert_error_below
from tests.metrics.known_tables import tiny_table
from tests.suites import few

SYNSETS = {
    "n01440764": "tench",
    "n02123045": "tabby",
    "n02088364": "beagle",
    "n07873807": "pizza",
    "n02951358": "canoe",
}


def synsets(folder: Path) -> None:
    """Write ImageNet with an image for each of five synsets."""
    write(folder / "LOC_synset_mapping.txt", "".join(f"{number} {name}\n" for number, name in SYNSETS.items()))
    rows = [f"ILSVRC2012_val_{place:08d},{number} 0 0 7 5 " for place, number in enumerate(SYNSETS, 1)]
    write(folder / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *rows]))
    for place in range(1, 6):
        image(folder / f"ILSVRC2012_val_{place:08d}.JPEG", shade=40 * place)


def coco_2014(folder: Path) -> None:
    """Write COCO under the names of the files of 2014, with words that the tiny model knows."""
    coco(folder)
    for path in [*folder.glob("annotations/*.json"), folder / "val2017"]:
        path.rename(path.with_name(path.name.replace("2017", "2014")))
    path = folder / "annotations/captions_val2014.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for place, entry in enumerate(data["annotations"]):
        entry["caption"] = ("a dog on the mat", "a small dog", "the gray dog")[place]
    write_json(path, data)


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "coco": coco_2014,
    "grid:imagenet": synsets,
    "conceptual_captions": conceptual_captions,
    "phrases": ms_cxr_json,
}
PLANS = ["fixlip", "exclip", "m2ib"]
CHEAP = ("exclip", "m2ib", "center", "random", "ones")


@pytest.mark.parametrize("name", PLANS)
def test_dry_run_says_which_data_are_missing(name: str, run: Run) -> None:
    code, out, _ = run("bench", name, "--dry-run")
    assert code == 0
    for choice in Plan.read(name).data:
        (line,) = [line for line in out.splitlines() if line.startswith(f"data {choice.label}: missing (")]
        assert f"--data {choice.label}=FOLDER" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_plan_runs_on_small_copies(name: str, clip_folder: Path, tmp_path: Path) -> None:
    """Every metric has numbers; methods whose cost is the point of the plan are left out, or draw little."""
    plan = override_plan(Plan.read(name), folders_of(name, tmp_path), models=[str(clip_folder)], count=2)
    lines = list(dry_run(plan))
    assert {line.partition(": ")[2] for line in lines if line.startswith("data ")} == {"2 pairs"}
    methods = [method for method in plan.methods if method.label in CHEAP]
    methods += [
        method.with_options(image_budget=64, text_budget=16)
        for method in plan.methods
        if method.label.startswith("fixlip")
    ]
    assert len(methods) > 2
    measured = nibt.benchmark(plan.model_copy(update={"methods": tuple(methods)}), tmp_path / "RUN")
    frame = measured.frame()
    assert not frame.error.any(), set(frame.error)
    assert set(frame.data) == {choice.label for choice in plan.data}
    for metric in plan.metrics:
        assert frame[frame.metric_label == metric.label].value.notna().any(), metric.label
    report = write_report(measured)
    assert all(step.step in report for step in plan.protocol)


@pytest.mark.parametrize("share", few([0.3, 0.5, 0.7], [0.3]))
def test_tables_of_the_plan_fixlip_are_those_of_the_joint_fit(share: float, record_property: Record) -> None:
    (choice,) = [method for method in Plan.read("fixlip").methods if method.label == f"fixlip p={share}"]
    options = {**choice.options, "image_budget": 400, "text_budget": 12}
    tables = [tiny_table(name, **options)[0].table for name in (choice.name, "fixlip")]
    assert choice.options["share"] == share
    assert choice.options["image_budget"] == 2**21 // choice.options["text_budget"], "as the authors split their budget"
    assert_error_below(1e-7, *tables, record_property)


def folders_of(name: str, folder: Path) -> dict[str, str]:
    """Write the data of a plan, and return their folders by name."""
    names = {choice.name for choice in Plan.read(name).data}
    for dataset in names:
        LAYOUTS[dataset](folder / dataset.replace(":", " "))
    return {dataset: str(folder / dataset.replace(":", " ")) for dataset in names}
