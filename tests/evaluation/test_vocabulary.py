"""Tests of ``nibt.evaluation.vocabulary``, and of the check of an audit."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.datasets.scenes.drawing import NOUNS as SCENES
from nibt.evaluation.audit.checks import NOUNS, vocabulary_check
from nibt.evaluation.vocabulary import WORDING
from nibt.models.base import Model
from tests import tiny, tiny_vision_language
from tests.suites import VARIED, few

pytest.importorskip("scipy", reason="an audit has intervals")

FEW = ("cat", "dog", "bird", "tree", "sky", "nurse", "piano", "love")
"""Nouns of which the tokenizer of the tiny CLIP knows five."""


def expected(model: Model, nouns: tuple[str, ...]) -> list[str]:
    """Return the nouns that are known, one by one, by the model's own forward pass and tokenizer."""

    def embed(caption: str) -> torch.Tensor:
        return F.normalize(model.text.encode(model.text.prepare([caption]))[0].double(), dim=-1)

    def blank(caption: str) -> torch.Tensor:
        inputs = model.text.prepare([caption])
        assert inputs.words is not None
        with model.text.blend_to_padding((~inputs.words.explained).float()):
            return F.normalize(model.text.encode(inputs)[0].double(), dim=-1)

    read = [noun for noun in nouns if "does not know" not in str(model.text.prepare([noun]).notes)]
    far = [noun for noun in read if float((embed(noun) - blank(noun)).norm()) >= 0.05]
    if not far:
        return []
    worded = torch.stack([embed(WORDING.format(noun)) for noun in far])
    cosines = [worded @ embed(noun) for noun in far]
    return [
        noun for place, noun in enumerate(far) if float(cosines[place][place]) >= float(cosines[place].max()) - 1e-4
    ]


def test_nouns_are_a_thousand_and_differ() -> None:
    assert len(NOUNS) == len(set(NOUNS)) == 1000
    assert all(noun.isalpha() and noun.islower() for noun in NOUNS)


@pytest.mark.parametrize("kind", few(("clip", "siglip", "coca", "mt5"), VARIED))
def test_known_nouns_are_those_of_the_definition(kind: str) -> None:
    """Also with a tokenizer that knows five of the words."""
    model = tiny.model(kind)
    check, unknown = vocabulary_check(model, FEW)
    known = [noun for noun in FEW if noun not in unknown]
    assert known == expected(model, FEW)
    assert check.value == pytest.approx(len(known) / len(FEW))
    if kind == "clip":
        assert set(FEW[5:]) <= set(unknown)


def test_a_model_whose_tokenizer_knows_no_noun_fails() -> None:
    check, unknown = vocabulary_check(tiny.model("clip"), ("nurse", "piano", "love"))
    assert unknown == ("nurse", "piano", "love")
    assert (check.value, check.verdict, check.count) == (0.0, "fail", 3)


def test_lite_knows_names_of_classes_and_neither_people_nor_ideas() -> None:
    nouns = ("cat", "banana", "guitar", "camera", "nurse", "love", "teacher", "river", "hammer")
    check, unknown = vocabulary_check(nibt.load_model("lite"), nouns)
    assert unknown == ("nurse", "love", "teacher", "river")
    assert check.verdict == "warn"


def test_synonyms_are_both_known() -> None:
    """An airplane and a jet have one concept in ``lite``, so their embeddings are equal but for rounding."""
    assert not vocabulary_check(nibt.load_model("lite"), ("airplane", "jet", "cat"))[1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("lite", 442), ("scenes", 69)])
def test_counts_of_the_guide(name: str, count: int) -> None:
    model = nibt.load_model(name)
    unknown = vocabulary_check(model)[1]
    assert len(NOUNS) - len(unknown) == count == len(expected(model, NOUNS))
    if name == "scenes":
        assert not set(unknown) & set(SCENES)


@pytest.mark.slow
def test_a_random_model_knows_few_nouns() -> None:
    """With the tokenizer of ``scenes`` it tells all captions from a blank one, and hardly any noun in two captions."""
    scenes = nibt.load_model("scenes")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = type(scenes.module)(scenes.module.config).eval()  # pyright: ignore
    model = nibt.load_model(module, processor=scenes.request.processor, tokenizer=scenes.request.tokenizer)
    known = set(NOUNS) - set(vocabulary_check(model)[1])
    assert known == set(expected(model, NOUNS))
    assert 30 <= len(known) <= 60


@pytest.mark.parametrize("kind", few(tuple(tiny_vision_language.KINDS), ("colpali",)))
def test_vocabulary_of_models_with_prompts_and_sets_of_vectors(kind: str) -> None:
    model = tiny_vision_language.model(kind)
    check, unknown = vocabulary_check(model, FEW)
    assert check.value == pytest.approx(1 - len(unknown) / len(FEW))
    reordered = vocabulary_check(model, FEW[::-1])[1]
    assert set(reordered) == set(unknown), "the nouns of a batch do not change each other"


def test_vocabulary_does_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model("mt5")
    plain = vocabulary_check(model, NOUNS[:40])
    monkeypatch.setattr("nibt.evaluation.vocabulary._BATCH", 7)
    assert vocabulary_check(model, NOUNS[:40]) == plain
    assert replace(plain[0], value=1.0).verdict == "pass"
    assert json.dumps(plain[1])
