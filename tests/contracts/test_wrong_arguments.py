"""Public functions refuse values of other types in one line, which says what they take."""

import inspect
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import nibt
from nibt.data.objects import read_box
from nibt.data.pair import Pair
from nibt.engine.encode import encode
from nibt.engine.reading import describe
from nibt.errors import NibtError
from nibt.results.regions import Regions
from tests import tiny
from tests.answers import PEAK, WHOLE, answer
from tests.app.requests import make_request
from tests.suites import few

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
    (lambda: explain(method=3), "or a Method; nibt.method makes one of a function (got 3)"),
    (lambda: explain(method=None), "makes one of a function (got None)"),
    (lambda: explain(target=3), "unknown target 3. Known targets: centered, cosine"),
    (lambda: explain(variant=3), "unknown variant 3. Known variants: default"),
    (lambda: explain(variant=[]), "unknown variant []"),
    (
        lambda: explain(target="ensemble", templates=3),
        "a template must be a text that contains {} once, for the caption, and no other brace (got 3)",
    ),
    (
        lambda: nibt.rank(tiny.model("clip"), tiny.image(48, 48), 3),
        "labels must be a list of at least two texts, in a file one per line (got int)",
    ),
    (
        lambda: nibt.to_frame(regions()),
        "takes results of class Explanation or AnswerExplanation (got Regions): its method save",
    ),
    (lambda: nibt.to_coco("x.json"), "takes results of class Explanation (got str): read a file with Explanation.load"),
    (lambda: nibt.to_frame([3]), "to_frame takes results of class Explanation or AnswerExplanation (got int)"),
    (lambda: nibt.to_coco(regions()), "to_coco takes results of class Explanation (got Regions)"),
    (lambda: nibt.draw(3), "or AnswerExplanation or Decomposition or SlideExplanation (got int)"),
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
    (lambda: measure("scenes", ["deletion"]), "measure takes a list of pairs of an image and a caption (got str)"),
    (lambda: measure({"a.png": "a cat"}, ["deletion"]), "a list of pairs of an image and a caption (got dict)"),
    (lambda: measure(["a cat"], ["deletion"]), "each a Pair, or a tuple of both and perhaps a mask (got a string)"),
    (lambda: measure([(tiny.IMAGES[0],)], ["deletion"]), "a tuple of both and perhaps a mask (got a tuple of 1)"),
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


def test_text_that_is_not_utf_8_is_refused_in_words() -> None:
    """As Python reads it from a command line, and as a browser sends it; in every argument that a model reads."""
    model, generator, image, text = tiny.model("clip"), "scenes_generator", tiny.image(48, 48), "caf\udce9"
    calls: list[Callable[[], Any]] = [
        lambda: nibt.explain(model, image, text),
        lambda: explain(target="ensemble", templates=[f"{text} {{}}"]),
        lambda: explain(target="difference", against=text),
        lambda: nibt.explain_ranking(model, image, ["a cat", text]),
        lambda: nibt.regions(model, image, text),
        lambda: nibt.compare(model, "a cat", text),
        lambda: nibt.calibrate(model, [], [text]),
        lambda: nibt.explain_answer(generator, image, text),
        lambda: nibt.explain_answer(generator, image, "a cat", text),
        lambda: nibt.explain_answer(generator, image, "a cat", "a cat", against=text),
        lambda: describe(model, text),
        lambda: make_request(text),
        lambda: make_request(f"a cat\n{text}", "labels"),
        lambda: make_request(f"a cat\n{text}", "answer"),
    ]
    for call in calls:
        with pytest.raises(NibtError, match="has bytes that are not text in UTF-8"):
            call()


MODEL, IMAGES = tiny.model("clip"), [tiny.image(48, 48, seed=seed) for seed in (0, 1)]
PLAIN: dict[str, dict[str, Any]] = {
    "explain": {"model": MODEL, "image": IMAGES[0], "caption": "red cat", "method": "random"},
    "compare": {"model": MODEL, "first": IMAGES[0], "second": IMAGES[1], "method": "random"},
    "regions": {"model": MODEL, "image": IMAGES[0], "caption": "red cat", "method": "occlusion"},
    "explain_ranking": {"model": MODEL, "query": IMAGES[0], "candidates": ["cat", "dog"], "method": "random"},
    "rank": {"model": MODEL, "query": IMAGES[0], "candidates": ["cat", "dog"]},
    "replace_words": {"model": MODEL, "image": IMAGES[0], "caption": "red cat", "candidates": ["dog"]},
    "measure": {"model": MODEL, "pairs": [pair()], "metrics": ["sparseness"], "method": "random"},
    "decompose": {"model": MODEL, "image": IMAGES[0], "caption": "red cat"},
    "name_heads": {"model": MODEL, "images": IMAGES, "texts": ["cat"]},
    "ablate_heads": {"model": MODEL, "image": IMAGES, "caption": "cat", "heads": [(0, 0)]},
    "contributions": {"model": MODEL, "image": IMAGES[0], "method": "occlusion"},
    "explain_embeddings": {
        "model": MODEL,
        "item": IMAGES[0],
        "embeddings": encode(MODEL.text, ["cat"]),
        "method": "occlusion",
    },
}
STRANGE = (
    [[]],
    {"a": 1},
    np.full(3, np.nan),
    np.full((4, 4), np.nan),
    torch.tensor([torch.nan]),
    ["x" * 3000] * 3,
    "x" * 5000,
    math.nan,
    10**30,
    None,
    object(),
    np.random.default_rng(0),
)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", few(PLAIN, ["explain", "regions", "replace_words"]))
def test_a_strange_value_of_any_argument_is_used_or_refused_in_one_short_line(name: str) -> None:
    function = getattr(nibt, name)
    function(**PLAIN[name])
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or parameter.name == "on_progress":
            continue
        for value in STRANGE:
            message = ""
            try:
                function(**PLAIN[name] | {parameter.name: value})
            except NibtError as error:
                message = str(error)
            assert len(message) <= 1300, (parameter.name, message[:200])
            assert "\n" not in message, (parameter.name, message)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), 3.0, "3"])
def test_whole_numbers_of_other_types_are_seeds_that_can_be_saved(seed: Any) -> None:
    for explanation in (
        explain(method="rise", masks=8, seed=seed),
        explain(method="nib", steps=2, views=1, noise="unit", seed=seed),
    ):
        stored = explanation.to_json()["method"]
        assert type(stored["seed"]) is int
        assert stored["seed"] == 3
        json.dumps(stored)
