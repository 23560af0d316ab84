"""Tests of ``nibt.method``: functions of a hidden state and its gradient as methods."""

import json
from typing import Any

import pytest
import torch

import nibt
from nibt.bridges.classifier import ZeroShotClassifier
from nibt.data.images import read_image
from nibt.errors import BadOption
from tests import tiny

IMAGE, CAPTION = "sample:scene", "a cat"


def scores(hidden: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return (hidden * gradient).sum(-1)


product = nibt.method(scores)


def test_lambda_has_a_name_for_files() -> None:
    assert nibt.method(lambda hidden, gradient: (hidden * gradient).sum(-1)).name == "function"


@pytest.mark.parametrize("layer", [2, [1, 3], 0.5])
def test_gradient_times_state_is_the_published_nib_with_one_step(layer: Any) -> None:
    model = tiny.model("clip")
    ours: Any = nibt.explain(model, IMAGE, CAPTION, nibt.method(scores, layer=layer))
    published: Any = nibt.explain(model, IMAGE, CAPTION, "nib:paper", layer=layer, steps=1)
    torch.testing.assert_close(ours.grid, published.grid, atol=1e-6, rtol=1e-5)
    for our, word in zip(ours.words, published.words, strict=True):
        assert our.score == pytest.approx(word.score, abs=1e-6)


def test_views_add_details_to_the_map_of_the_image_only() -> None:
    model = tiny.model("clip")
    plain: Any = nibt.explain(model, IMAGE, CAPTION, product)
    viewed: Any = nibt.explain(model, IMAGE, CAPTION, nibt.method(scores, views=3))
    assert viewed.method["image"]["views"] == 3
    assert viewed.grid.shape[0] > plain.grid.shape[0]
    assert [word.score for word in viewed.words] == [word.score for word in plain.words]


def test_results_name_the_function_and_can_be_stored() -> None:
    explanation: Any = nibt.explain(tiny.model("clip"), IMAGE, CAPTION, product)
    stored = json.loads(json.dumps(explanation.to_json()))
    assert stored["method"]["name"] == "scores"
    assert stored["method"]["image"] == {"layer": 0.65, "views": 1, "amounts": "method"}
    assert nibt.Explanation.from_json(stored).grid.equal(explanation.grid)


def test_checks_and_tables_take_functions() -> None:
    model = tiny.model("clip")
    checked: Any = nibt.check(model, IMAGE, CAPTION, product)
    assert checked.checks
    table: Any = nibt.regions(model, IMAGE, "a cat and a dog", product)
    assert table.scores.isfinite().all()


def test_classifiers_of_bridges_use_the_object() -> None:
    model = tiny.model("clip")
    classifier, pixels = ZeroShotClassifier(model, [CAPTION]), model.image.prepare([read_image(IMAGE)]).values
    ours = classifier.explain(pixels, 0, nibt.method(scores, layer=2), {})
    published = classifier.explain(pixels, 0, "nib:paper", {"layer": 2, "steps": 1})
    torch.testing.assert_close(ours.scores, published.scores, atol=1e-6, rtol=1e-5)


method: Any = nibt.method


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: method(lambda d: d), r"must take two arguments, .* \(got <lambda>\(d\)\)"),
        (lambda: method(lambda *, hidden, gradient: hidden), "must take two arguments"),
        (lambda: method(3), "takes a function of a hidden state and its gradient"),
        (lambda: method(product), "takes a function of a hidden state and its gradient"),
        (lambda: method(dict), "takes a function of a hidden state and its gradient"),
        (lambda: explained(method(lambda hidden, gradient: 3)), r"a score per token.*got a int"),
        (lambda: explained(method(lambda hidden, gradient: hidden)), r"a score per token.*got \["),
        (
            lambda: explained(method(lambda hidden, gradient: hidden[..., 0] / 0)),
            "scores that are NaN, infinite or too large for float32",
        ),
        (lambda: explained(method(lambda hidden, gradient: hidden[..., 0].double() * 1e300)), "too large for float32"),
        (lambda: explained(method(lambda hidden, gradient: hidden[..., 0].to("meta"))), "values.*on the meta device"),
        (lambda: explained(method(lambda hidden, gradient: hidden[..., 0].to_sparse())), "values.*torch.sparse_coo"),
        (lambda: explained(method(lambda hidden, gradient: next(iter(())))), "raised StopIteration: the function"),
        (lambda: explained(method(lambda hidden, gradient: hidden[..., 0], layer=99)), "layer must be between"),
        (lambda: explained(lambda hidden, gradient: hidden[..., 0]), "nibt.method makes one of a function"),
        (lambda: explained(product, steps=3), "a Method has its options already"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_other_functions_are_refused(call: Any, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        call()


def explained(method: Any, **options: Any) -> Any:
    return nibt.explain(tiny.model("clip"), IMAGE, CAPTION, method, **options)
