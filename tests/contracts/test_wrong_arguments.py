"""Public functions refuse values of other types in one line, which says what they take."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from jaxtyping import TypeCheckError

import nibt
from nibt.data.pair import Pair, read_box
from nibt.errors import NibtError
from nibt.results.regions import Regions
from tests import tiny
from tests.answers import PEAK, WHOLE, answer

BOX = "a box must be left, top, width and height in pixels, numbers of which the last two are at least 0"


def regions() -> Regions:
    table = nibt.regions(tiny.model("clip"), tiny.image(48, 48), "red cat", method="occlusion")
    assert isinstance(table, Regions)
    return table


def explain(**options: Any) -> Any:
    return nibt.explain(tiny.model("clip"), tiny.image(48, 48), "red cat", **options)


def measure(pairs: Any, metrics: Any) -> Any:
    return nibt.measure(tiny.model("clip"), pairs, metrics)


def pair() -> Pair:
    return Pair(tiny.image(48, 48), "red cat")


CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: explain(method=3), "a method must be its name, a text such as 'nib:paper steps=10', or a Method (got 3)"),
    (lambda: explain(method=None), "or a Method (got None)"),
    (lambda: explain(target=3), "unknown target 3. Known targets: centered, cosine"),
    (lambda: explain(variant=3), "unknown variant 3. Known variants: default"),
    (lambda: explain(variant=[]), "unknown variant []"),
    (
        lambda: explain(target="ensemble", templates=3),
        "a template must contain {} exactly once, for the caption (got 3)",
    ),
    (lambda: explain(layer="auto", sample=3), "sample takes a list of pairs of an image and a caption (got int)"),
    (lambda: nibt.rank(tiny.model("clip"), tiny.image(48, 48), 3), "labels must be a list of texts (got 3)"),
    (lambda: nibt.to_frame(regions()), "takes results of class Explanation or AnswerExplanation (got Regions)"),
    (lambda: nibt.to_frame([3]), "to_frame takes results of class Explanation or AnswerExplanation (got int)"),
    (lambda: nibt.to_coco(regions()), "to_coco takes results of class Explanation (got Regions)"),
    (lambda: nibt.draw(3), "or AnswerExplanation or Decomposition (got int)"),
    (
        lambda: nibt.draw_links(answer(PEAK, (90, 90), WHOLE)),
        "draw_links takes results of class Regions (got Explanation)",
    ),
    (lambda: nibt.Panel(3), "a page takes results of class Explanation or Regions or AnswerExplanation (got int)"),
    (lambda: nibt.benchmark(None, "run"), "a plan must be its name, a TOML file, a mapping or a Plan (got NoneType)"),
    (lambda: nibt.Plan(), "models is missing; methods is missing"),
    (
        lambda: nibt.Plan(modelz=[], methods=["nib"], data=["scenes"], metrics=["deletion"]),
        "modelz is unknown: did you mean 'models'?",
    ),
    (lambda: regions().for_region("x"), f"{BOX} (got 'x')"),
    (lambda: nibt.draw_links(regions(), box=(0, 0, math.nan, 1)), f"{BOX} (got (0, 0, nan, 1))"),
    (lambda: measure([pair()], [3]), "a metric must be its name, or a Metric with its options (got 3)"),
    (lambda: measure([pair()], 3), "a metric must be its name, or a Metric with its options (got 3)"),
    (lambda: measure(3, ["deletion"]), "measure takes a list of pairs of an image and a caption (got int)"),
    (lambda: nibt.batch(tiny.model("clip"), 3, "job"), "pairs must be"),
    (lambda: nibt.available(3), "unknown kind 3. Known kinds: datasets"),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message[:40] for _, message in CALLS])
def test_a_value_of_another_type_is_refused_in_words(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((NibtError, TypeCheckError)) as raised:
        call()
    if isinstance(raised.value, TypeCheckError):  # the full suite checks types before the call
        return
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "box",
    ["x", 3, None, (0, 0, 1), (math.nan, 0, 1, 1), (0, 0, math.inf, 1), (0, 0, "a", 1), (0, 0, 1, -1)],
)
def test_boxes_are_four_numbers(box: Any) -> None:
    with pytest.raises(NibtError, match="a box must be left, top, width and height"):
        read_box(box)


def test_boxes_are_read_as_numbers() -> None:
    assert read_box([0, -1, "2", 0.5]) == (0.0, -1.0, 2.0, 0.5)
