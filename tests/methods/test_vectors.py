"""Tests of ``Method.vectors``: the vectors of units, for every method that is linear in the target."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.core.side import Side
from nibt.engine.encode import encode
from nibt.errors import BadOption
from nibt.methods.base import Method, linear_methods
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.attribution import Attribution
from tests import tiny
from tests.helpers import QUICK, assert_close, both_sides, make_side
from tests.suites import few
from tests.tiny import CAPTIONS

KINDS = ["clip", "siglip", "own vit", "coca", "bert", "convnext"]
COMPLETE = {"nib": {"steps": 64}, "integrated_gradients": {"steps": 300}, "shapley": {"budget": 40}}


def quick(method: str, **more: Any) -> dict[str, Any]:
    return {**QUICK.get(method, {}), **({"image_layer": 1} if method == "nib" else {}), **more}


def embedded(model: Model, modality: str) -> torch.Tensor:
    """Return the embeddings of two items of the other side."""
    if modality == "image":
        return encode(model.text, CAPTIONS[:2])
    return encode(model.image, [tiny.image(seed=seed) for seed in range(2)])


@both_sides
@pytest.mark.parametrize("method", linear_methods())
@pytest.mark.parametrize("kind", few(KINDS, ["clip"]))
def test_vectors_give_the_map_of_the_method(kind: str, method: str, modality: str) -> None:
    """P . v is the method's own map, for any v, with one view or several."""
    model = tiny.model(kind)
    item: Any = tiny.image() if modality == "image" else nibt.Caption(CAPTIONS[0])
    options = quick(method, views=2) if modality == "image" else quick(method)
    actual = nibt.explain_embeddings(model, item, 3 * embedded(model, modality), method=method, **options)
    for place in range(2):
        first, second = (item, CAPTIONS[place]) if modality == "image" else (tiny.image(seed=place), CAPTIONS[0])
        wanted = getattr(nibt.explain(model, first, second, method, **options), modality)
        assert_close(actual[place].scores, wanted.scores, 1e-5, 5e-7)
        assert (actual[place].path is None) == (wanted.path is None)


@pytest.mark.parametrize("method", linear_methods())
def test_contributions_give_the_map_of_any_caption(method: str) -> None:
    model = tiny.model("clip")
    stored = nibt.contributions(model, tiny.image(), method=method, **quick(method))
    assert stored.facts["method"] == method
    answer = stored.explain(CAPTIONS[1])
    wanted = nibt.explain(model, tiny.image(), CAPTIONS[1], method, **quick(method)).image
    assert_close(answer.scores, wanted.scores, 1e-5, 5e-7)
    assert answer.grid.shape == wanted.grid.shape
    assert (answer.path is None) == (wanted.path is None)


@pytest.mark.parametrize("method", [name for name in linear_methods() if name != "fixlip"])
def test_table_is_the_product_of_the_vectors(method: str) -> None:
    """A row is the map of the image for the vector of the word; the rows of all words are that of their sum."""
    model = tiny.model("clip")
    table = nibt.regions(model, tiny.image(), CAPTIONS[0], method=method, **quick(method))
    text = model.text.trace(model.text.prepare([CAPTIONS[0]]))
    side = Side(model, text, lambda embedding: embedding.norm(dim=-1))
    kind = find("methods", method)
    of_words = kind.configured(model.text, "default", quick(method), {}).vectors(side)
    aim = of_words.of_words([word.tokens for word in table.words]).values
    rows = nibt.explain_embeddings(model, tiny.image(), aim[:-1], method=method, **quick(method))
    assert_close(table.scores[:-1, :-1], rows.scores * aim[:-1].norm(dim=-1, keepdim=True), 1e-5, 1e-8)


@pytest.mark.parametrize("kind", few(["clip", "siglip", "own vit", "bert"], ["bert"]))
@pytest.mark.parametrize("method", sorted(COMPLETE))
def test_table_of_a_complete_method_sums_to_the_product_of_the_changes(method: str, kind: str) -> None:
    """For SHAP, whose baseline is the input without any unit, to rounding; for paths, to their gap."""
    model = tiny.model(kind)
    options = {**COMPLETE[method], **({"layer": 1, "views": 1} if method == "nib" else {})}
    table = nibt.regions(model, tiny.image(), CAPTIONS[0], method=method, **options)
    size = float(table.table.abs().sum())
    assert abs(table.gap) < (1e-5 if method == "shapley" else 0.02) * size
    assert size > 0


def test_product_of_shapley_tables_is_that_of_the_inputs_without_units() -> None:
    model = tiny.model("clip")
    table = nibt.regions(model, tiny.image(), CAPTIONS[0], method="shapley", budget=16)
    image, text = model.image.prepare([tiny.image()]), model.text.prepare([CAPTIONS[0]])
    blank = type(image)(torch.zeros_like(image.values), image.extra)
    ends = [F.normalize(model.image.encode(inputs), dim=-1)[0] for inputs in (image, blank)]
    words = text.words.explained
    with model.text.blend_to_padding((~words).float()):
        before = F.normalize(model.text.encode(text), dim=-1)[0]
    after = F.normalize(model.text.encode(text), dim=-1)[0]
    assert table.product == pytest.approx(float((ends[0] - ends[1]) @ (after - before)), abs=1e-6)


@pytest.mark.slow
def test_only_chosen_words_have_a_row() -> None:
    """The rows of chosen words equal those of the whole table, and the last row has all others."""
    model = tiny.model("clip")
    for method in ("banzhaf", "gae", "fixlip"):
        options = {"method": method, **quick(method)}
        whole = nibt.regions(model, tiny.image(), CAPTIONS[0], **options)
        chosen = nibt.regions(model, tiny.image(), CAPTIONS[0], words=[1, "cat"], **options)
        rows = [[word.tokens for word in whole.words].index(word.tokens) for word in chosen.words]
        assert_close(chosen.table, whole.table[rows], 1e-5, 1e-8)
        assert_close(chosen.scores.sum(0), whole.scores.sum(0), 1e-5, 1e-8)


@dataclass(frozen=True)
class OfAnotherPackage(Method):
    """A method that declares to be linear, and no more: of no class that nibt has for such methods."""

    linear = True

    inner: Method

    def attribute(self, side: Side) -> Attribution:
        return self.inner.attribute(side)


@both_sides
@pytest.mark.parametrize("name", ["occlusion", "integrated_gradients"])
def test_any_method_that_declares_to_be_linear_has_vectors(name: str, modality: str) -> None:
    """A map for each axis of the embedding gives the vectors that nibt's own classes compute at once."""
    side = make_side(tiny.model("clip"), modality).take([0])
    inner = find("methods", name).configured(side.tower, "default", quick(name), {})
    actual, wanted = OfAnotherPackage(inner).vectors(side), inner.vectors(side)
    assert_close(actual.change, wanted.change)
    if modality == "image":
        assert_close(actual.of_cells()[0].values[:-1], wanted.of_cells()[0].values[:-1])
        assert actual.of_cells()[1] == wanted.of_cells()[1]
    else:
        assert_close(actual.of_words([[1], [2, 3]]).values[:2], wanted.of_words([[1], [2, 3]]).values[:2])


def test_methods_without_vectors_are_refused_by_name() -> None:
    model = tiny.model("clip")
    for call in (
        lambda: nibt.contributions(model, tiny.image(), method="gae"),
        lambda: nibt.explain_embeddings(model, tiny.image(), torch.ones(1, 12), method="m2ib"),
    ):
        with pytest.raises(BadOption, match=r"is not linear in the target.*choose one of banzhaf, "):
            call()


@pytest.mark.parametrize("method", ["banzhaf", "occlusion", "rise", "shapley", "fixlip"])
def test_vectors_need_no_gradients(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a gradient was computed")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    model = tiny.model("clip")
    table = nibt.regions(model, tiny.image(), CAPTIONS[0], method=method, **quick(method))
    assert table.table.any()


@pytest.mark.parametrize("method", ["banzhaf", "occlusion", "shapley", "rise"])
def test_tables_of_weights_in_half_precision_are_near_those_of_float32(method: str) -> None:
    built = tiny.KINDS["clip"]()
    half = nibt.load_model(built.module.to(torch.bfloat16), processor=built.processor)
    rough, exact = (
        nibt.regions(model, tiny.image(), CAPTIONS[0], method=method, **quick(method)).table
        for model in (half, tiny.model("clip"))
    )
    assert rough.isfinite().all()
    assert float(torch.corrcoef(torch.stack([rough.flatten(), exact.flatten()]))[0, 1]) > 0.9
