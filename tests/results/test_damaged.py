"""Tests of edited files of results: a value that cannot be drawn is one error that names its field."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import nibt
from nibt.errors import BadInput, NibtError
from nibt.report.html.audit import page
from nibt.report.image.layout import uri
from nibt.results.audit import Audit, Check, Example, MetricMean, ModelDifference, RandomizationCurve
from nibt.results.parts import Crop, Effect, LabelOfPart, Part, Parts
from nibt.types import ModelRecord

GONE = object()
VALUES = (GONE, None, "x", "", -1, 0, 10**9, 1e38, [], {}, True, 1.5, [1, 2, 3], [[1, 2], [3]])


def model(name: str) -> ModelRecord:
    return {
        "id": name,
        "family": "clip",
        "weights_hash": "0" * 16,
        "configuration_hash": "0" * 16,
        "dtype": "float32",
        "device": "cpu",
        "resize": "model",
        "image_size": None,
    }


def check(name: str, question: int) -> Check:
    return Check(
        name=name,
        question=question,
        method="nib",
        side="image",
        value=0.1,
        low=0.0,
        high=0.2,
        count=24,
        better="lower",
        passes=0.4,
        fails=0.7,
        about="similarity",
    )


def parts(picture: str) -> Parts:
    """Parts of a method with one part in one image."""
    part = Part(
        number=1,
        share=0.5,
        images=9,
        size=0.1,
        stability=0.9,
        on_objects=0.0,
        place=torch.ones(2, 2),
        needed=Effect(0.3, 0.2, 0.4, 0.2, 0.1, 0.3, 9),
        sufficient=None,
        name="cat",
        nearest=(("cat", 0.3), ("dog", 0.2)),
        labels=(LabelOfPart("cat", 1.0, 9),),
        gallery=(Crop(0, "a.png", "a cat", (0, 0, 4, 4), 0.5, False, picture, picture),),
        center=torch.zeros(3),
        reach=1.0,
    )
    return Parts(
        model=model("first"),
        data={"pairs": 24},
        method="nib",
        layer=2,
        grid=(2, 2),
        seed=0,
        count=2,
        seconds=0.0,
        versions={"nibt": "0"},
        kept=0.6,
        means=torch.zeros(3),
        deviations=torch.ones(3),
        parts=(part,),
    )


@pytest.fixture(scope="module")
def audit() -> dict[str, Any]:
    """A small audit of each part, as its file has it."""
    curve = RandomizationCurve("nib", "image", "ssim", ("nothing", "head"), (1.0, 0.5), (1.0, 0.4), (1.0, 0.6))
    picture = uri(Image.new("RGB", (8, 6)))
    maps, words = {"the pair itself": [[0.1, 0.2], [0.3, -0.1]]}, {"the pair itself": [("cat", 0.5)]}
    example = Example("nib", "a cat", picture, (0.0, 0.0, 1.0, 1.0), maps, words, "maps", 0.5)
    difference = ModelDifference("maps", "nib", "image", 0.5, 1.0, -0.5, -0.6, -0.4, 24, 0.01, "similarity of maps")
    result = Audit(
        model=model("first"),
        data={"dataset": "scenes", "pairs": 24},
        methods=("nib",),
        seed=0,
        seconds=1.0,
        versions={"nibt": "0"},
        checks=(check("weights", 1), check("words", 9)),
        curves=(curve,),
        scores=(MetricMean("nib", "image", "deletion", 0.2, 0.1, 0.3, 24, "lower"),),
        examples=(example,),
        unknown_nouns=("cat",),
        against=model("second"),
        against_checks=(check("weights", 1),),
        differences=(difference,),
        parts=(parts(picture),),
    )
    return json.loads(json.dumps(result.to_json()))


def places(data: Any, *outer: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the places of all values in plain data, of lists of those of the first entry."""
    if outer:
        yield outer
    for key, value in data.items() if isinstance(data, dict) else list(enumerate(data))[:1] if data else ():
        if isinstance(value, dict | list):
            yield from places(value, *outer, key)
        else:
            yield (*outer, key)


def damaged(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    data = copy.deepcopy(data)
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return data


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("methods",), [], r"methods must have at least 1 entry \(got \[\]\)"),
        (("checks",), [], r"checks must have at least 1 entry \(got \[\]\)"),
        (("checks", 0, "count"), -3, r"checks\[0\]: count must be at least 0 \(got -3\)"),
        (("checks", 0, "high"), -3.0, r"checks\[0\]: value must be between low and high"),
        (("data", "pairs"), "x", r"data.pairs must be a whole number, at least 0 \(got 'x'\)"),
        (("checks", 0, "name"), "x", r"checks\[0\].name must be the name of a check, such as 'weights' \(got 'x'\)"),
        (("checks", 1, "question"), 99, r"checks\[1\].question must be the number of a question, .* \(got 99\)"),
        (("checks", 0, "method"), "rise", r"checks\[0\].method must be one of methods, nib \(got 'rise'\)"),
        (("curves", 0, "method"), "rise", r"curves\[0\].method must be one of methods"),
        (("parts", 0, "method"), "rise", r"parts\[0\].method must be one of methods"),
        (("parts", 0, "parts", 0, "gallery", 0, "crop"), "x", r"gallery\[0\].crop must be an image as a data URI"),
        (("curves", 0, "lows"), [0.1], r"curves\[0\] must have as many stages, values, lows and highs"),
        (("examples", 0, "image"), "x", r"examples\[0\].image must be an image as a data URI \(got 'x'\)"),
        (("examples", 0, "image"), "data:image/png;base64,eA==", r"examples\[0\].image.* is not an image"),
        (("examples", 0, "image"), "data:image/png;base64,?", r"examples\[0\].image"),
        (("examples", 0, "value"), None, r"examples\[0\].value must be a number"),
        (("examples", 0, "region"), [5.0, 0.0, 1.0, 1.0], r"examples\[0\].region must be a part of the image"),
        (("examples", 0, "maps", "the pair itself"), [], r"maps.the pair itself must have rows of one length"),
        (("examples", 0, "maps", "the pair itself"), [[1.0], [1.0, 2.0]], r"rows of one length.*got \[1, 2\]"),
        (("examples", 0, "maps", "the pair itself"), [[], []], r"rows of one length, at least 1"),
        (("examples", 0, "maps", "the pair itself"), None, r"maps.the pair itself must be a list"),
    ],
)
def test_error_names_the_field_of_an_audit(
    place: tuple[Any, ...], value: Any, message: str, audit: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "audit.json"
    file.write_text(json.dumps(damaged(audit, place, value)))
    with pytest.raises(BadInput, match=message):
        Audit.load(file)


@pytest.mark.slow
def test_an_audit_that_can_be_read_can_be_drawn(audit: dict[str, Any]) -> None:
    drawn = 0
    assert page(Audit.from_json(audit))
    for place in places(audit):
        for value in VALUES:
            try:
                result = Audit.from_json(damaged(audit, place, value))
            except BadInput:
                continue
            assert page(result), (place, value)
            drawn += 1
    assert drawn > 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["explanation", "comparison", "regions", "answer"])
def test_a_result_that_can_be_read_can_be_drawn(kind: str, tmp_path: Path) -> None:
    results = {
        "explanation": lambda: nibt.explain("scenes", "sample:scene", "a cat", steps=1),
        "comparison": lambda: nibt.explain("scenes", "sample:scene", "a cat", against="a dog", steps=1),
        "regions": lambda: nibt.regions("scenes", "sample:scene", "a cat"),
        "answer": lambda: nibt.explain_answer("scenes_generator", "sample:scene", "what is left of the house ?"),
    }
    result = results[kind]()
    data = json.loads(json.dumps(result.to_json()))
    for number, place in enumerate(places(data)):
        for value in VALUES[number % 5 :: 5]:
            try:
                edited = type(result).from_json(damaged(data, place, value))
                edited.save(tmp_path / f"x.{'html' if number % 2 else 'png'}", overwrite=True)
                assert repr(edited)
            except NibtError:
                continue
