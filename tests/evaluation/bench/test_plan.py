"""Tests of ``nibt.evaluation.bench.plan``."""

import json
from pathlib import Path
from typing import Any

import pytest

import nibt
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.evaluation.bench.plan import CONTROLS, Plan, plans
from nibt.evaluation.bench.validation import check_plan, override_plan
from tests.evaluation.bench.plans import BASE


@pytest.mark.parametrize("name", sorted(plans()))
def test_shipped_plans_are_valid(name: str) -> None:
    plan = Plan.read(name)
    assert set(CONTROLS) <= {one.name for one in plan.methods}
    if name == "paper":
        assert len({one.name for one in plan.methods} - set(CONTROLS)) == 8
        with pytest.raises(BadInput, match=r"data\[0\]: .*--data conceptual_captions=FOLDER"):
            check_plan(plan)
    else:
        assert check_plan(plan)
    assert Plan.read(json.loads(json.dumps(plan.record()))) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metods": []}, "metods is unknown: did you mean 'methods'"),
        ({"methods": ["nibb"]}, r"methods\[0\]: unknown method 'nibb'. Did you mean 'nib'"),
        ({"methods": ["nib", {"name": "nib", "options": {"stepz": 1}}]}, r"methods\[1\]: unknown option 'stepz'"),
        ({"methods": [{"name": "nib", "variant": "papper"}]}, r"methods\[0\]: unknown variant 'papper'"),
        ({"methods": ["nib", "nib"]}, r"methods\[1\] has the label 'nib'"),
        ({"methods": [{"name": "nib", "options": {"layer": "auto"}}]}, r"methods\[0\]: a layer cannot be auto"),
        ({"methods": [{"name": "nib", "grid": {"steps": 3}}]}, r"methods\[0\].grid.steps must be a list"),
        ({"methods": [{"name": "nib", "steps": 3}]}, r"methods\[0\].steps is unknown"),
        (
            {"metrics": [{"name": "confidence_drop", "options": {"protocol": "none"}}]},
            r"metrics\[0\]: protocol must be",
        ),
        ({"metrics": [{"name": "deletion", "measured": "cosin"}]}, r"metrics\[0\]: unknown target 'cosin'"),
        ({"data": [{"name": "scenes", "options": {"fewest": 9}}]}, r"data\[0\]: fewest and most"),
        ({"data": [{"name": "coco"}]}, r"data\[0\]: coco needs its folder"),
        ({"targets": ["cosine", "sine"]}, r"targets\[1\]: unknown target 'sine'. Did you mean 'cosine'"),
        ({"sides": ["picture"]}, r"sides\[0\] must be 'image' or 'text'"),
        ({"batch_size": 0}, "batch_size must be greater than or equal to 1"),
        ({"seeds": ["a"]}, r"seeds\[0\] must be a valid integer"),
        ({"seeds": [0, 0]}, "seeds must have at least one entry, and no entry twice"),
        ({"seeds": [-1]}, r"seeds\[0\] must be greater than or equal to 0"),
        ({"targets": []}, "targets must have at least one entry"),
        ({"models": []}, "models must have at least 1 entry"),
        ({"models": [3]}, r"models\[0\] must be a name, or a table with a name"),
        ({"published": 1}, "published must be a valid boolean"),
        ({"models": [{"name": "scenes", "options": {"devise": "cpu"}}]}, r"models\[0\]: unknown option 'devise'"),
    ],
)
def test_plan_rejects_a_bad_value_with_its_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises((BadOption, BadInput), match=message):
        check_plan(Plan.read({**BASE, **change}))


def test_plan_expands_grids_and_stars() -> None:
    plan = Plan.read({**BASE, "methods": [{"name": "nib", "grid": {"steps": [2, 4], "layer": [1]}}, "*"]})
    labels = [one.label for one in plan.methods]
    assert labels[:2] == ["nib steps=2 layer=1", "nib steps=4 layer=1"]
    assert sorted(labels[2:]) == [name for name in nibt.available("methods") if name != "nib"]
    with pytest.raises(UnknownName, match="Did you mean 'quick'"):
        Plan.read("quik")


def test_override_plan_applies_the_options_of_the_command_line(tmp_path: Path) -> None:
    plan = override_plan(Plan.read("paper"), {"flickr8k": str(tmp_path)}, ["tiny_imagenet"], ["lite"], "cpu", 3)
    assert [(one.name, one.options.get("folder")) for one in plan.data] == [
        ("conceptual_captions", None),
        ("flickr8k", str(tmp_path)),
    ]
    assert (plan.models[0].name, plan.models[0].options, plan.first) == ("lite", {"device": "cpu"}, 3)
    with pytest.raises(BadOption, match="Did you mean 'flickr8k'"):
        override_plan(Plan.read("paper"), {"flickr": "."})
