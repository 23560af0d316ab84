"""Tests of ``nibt.engine.batches``."""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

import nibt
from nibt.data.pair import Pair
from nibt.engine.batches import batch_indices
from nibt.engine.explain import explain
from nibt.engine.spec import Request, resolve
from nibt.errors import BadInput, BadOption
from nibt.preprocessing.images import Resize
from nibt.registry import MethodSpec
from nibt.results.explanation import Explanation
from tests import tiny
from tests.helpers import assert_close
from tests.suites import VARIED, few

PAIRS = list(zip(tiny.IMAGES, tiny.CAPTIONS, strict=True))


METHODS = ("nib",)  # the other methods: contracts/test_methods.py


close = partial(assert_close, least=5e-7)  # the second is the rounding of a cosine


every_kind = pytest.mark.parametrize("kind", few(tiny.KINDS, VARIED))


every_method = pytest.mark.parametrize("method", METHODS)


def explain_in_batches(kind: str, method: str, pairs: Sequence[Any], batch_size: int) -> list[Explanation]:
    images, captions = zip(*pairs, strict=True)
    return explain(tiny.model(kind), list(images), list(captions), method, batch_size=batch_size)


def agree(actual: Explanation, wanted: Explanation, share: float = 1e-5) -> None:
    assert actual.caption == wanted.caption
    assert actual.source == wanted.source
    assert actual.similarity == pytest.approx(wanted.similarity, abs=1e-5)
    close(actual.image.scores, wanted.image.scores, share)
    scores = [torch.tensor([word.score for word in answer.words]) for answer in (actual, wanted)]
    assert [word.text for word in actual.words] == [word.text for word in wanted.words]
    close(*scores, share)


@every_kind
@every_method
def test_explain_is_independent_of_batch_and_order(kind: str, method: str) -> None:
    share = 1e-3 if kind == "fastvit" else 1e-5  # kinks amplify the rounding of a batch; in float64 the maps are equal
    alone = [explain_in_batches(kind, method, [pair], 1)[0] for pair in PAIRS]
    assert all(answer.image.scores.abs().max() > 0 for answer in alone)
    assert all(answer.text.scores.abs().max() > 0 for answer in alone)
    for actual, wanted in zip(explain_in_batches(kind, method, PAIRS, 8), alone, strict=True):
        agree(actual, wanted, share)
    order = random.Random(0).sample(range(len(PAIRS)), len(PAIRS))
    for actual, index in zip(
        explain_in_batches(kind, method, [PAIRS[index] for index in order], 3), order, strict=True
    ):
        agree(actual, alone[index], share)


@pytest.mark.parametrize("method", few(["saliency_map", "occlusion"], ["occlusion"]))
def test_captions_have_no_padding_of_their_mates(method: str) -> None:
    """The tokens of a caption, and the number of its scores, are those that it has alone."""
    for kind in ("clip", "siglip", "coca", "bert", "mt5"):
        one, other = explain_in_batches(kind, method, PAIRS[2:], 2), explain_in_batches(kind, method, PAIRS[2:], 1)
        for together, alone in zip(one, other, strict=True):
            assert together.text.tokens == alone.text.tokens
            assert together.text.special.tolist() == alone.text.special.tolist()
            close(together.text.scores, alone.text.scores)
            assert [word.tokens for word in together.text.words] == [word.tokens for word in alone.text.words]


@every_kind
@every_method
def test_explain_of_the_same_batch_gives_the_same_bits(kind: str, method: str) -> None:
    for one, other in zip(
        explain_in_batches(kind, method, PAIRS, 8), explain_in_batches(kind, method, PAIRS, 8), strict=True
    ):
        assert torch.equal(one.image.scores, other.image.scores)
        assert torch.equal(one.text.scores, other.text.scores)


@pytest.mark.parametrize("kind", few(tiny.ANY_SIZE, ["clip"]))
def test_explain_of_whole_images_is_independent_of_the_batch(kind: str) -> None:
    model = tiny.fresh(kind, resize="whole")
    answers = explain(model, tiny.IMAGES, list(tiny.CAPTIONS), batch_size=8)
    assert len({answer.image.grid.shape for answer in answers}) == 3
    for answer, (image, caption) in zip(answers, PAIRS, strict=True):
        agree(answer, explain(model, image, caption))


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "paper", "layer": 1},
        {"baseline": "zero", "quadrature": "geometric", "layer": 1},
        {"tolerance": 1e-3},
        {"text_layer": "0,1,2"},
    ],
)
@pytest.mark.parametrize("kind", few(["clip", "siglip naflex", "own text both ways", "bert"], ["bert"]))
def test_explain_with_options_of_nib_is_independent_of_the_batch(kind: str, options: dict[str, Any]) -> None:
    model = tiny.model(kind)
    together = explain(model, tiny.IMAGES, list(tiny.CAPTIONS), batch_size=8, **options)
    for answer, (image, caption) in zip(together, PAIRS, strict=True):
        agree(answer, explain(model, image, caption, **options))


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.001, 1.0, 10_000.0])
def test_explain_is_independent_of_the_memory(memory: float) -> None:
    for method in ("nib", "integrated_gradients", "m2ib"):
        images, captions = zip(*PAIRS, strict=True)
        actual = explain(tiny.model("clip"), list(images), list(captions), method, memory_mb=memory)
        for one, other in zip(actual, explain_in_batches("clip", method, PAIRS, 8), strict=True):
            agree(one, other)


def test_explain_rejects_zero_memory() -> None:
    with pytest.raises(BadOption, match="memory_mb must be above 0"):
        explain(tiny.model("clip"), tiny.IMAGES[0], "cat", memory_mb=0.0)


def test_batch_indices_group_captions_of_similar_length() -> None:
    model = tiny.model("clip")
    captions = ["cat", "a photo of a cat and a dog", "dog", "a small gray bird on the red mat"]
    pairs = [Pair(tiny.IMAGES[0], caption) for caption in captions]
    question = resolve(model, Request(MethodSpec("nib")))
    assert list(batch_indices(question, pairs, 2)) == [[0, 2], [1, 3]]
    assert list(batch_indices(question, pairs, 4)) == [[0, 1, 2, 3]]


def test_batches_of_large_images_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of one image stay together, since it is traced once."""
    model = tiny.model("clip")
    question = resolve(model, Request(MethodSpec("nib")))
    large = Resize("squash", 512, 512)
    monkeypatch.setattr(model.image, "preparation", replace(model.image.preparation, resize=large))

    different = [Pair(image, "a cat") for image in tiny.IMAGES[:4]]
    assert list(batch_indices(question, different, 3)) == [[0, 1], [2], [3]]
    same = [Pair(tiny.IMAGES[0], caption) for caption in ("a cat", "a dog", "a bird")]
    assert list(batch_indices(question, same, 3)) == [[0, 1, 2]]


def test_captions_without_a_word_are_named_before_any_pair_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens, traced = tiny.fresh("clip"), tiny.fresh("clip").text.tokens, []
    wordless = replace(tokens("a cat"), explained=(False,) * 4, words=())
    monkeypatch.setattr(model.text, "tokens", lambda text: wordless if text.startswith("?") else tokens(text))
    monkeypatch.setattr(type(model.text), "trace", lambda *args, **options: traced.append(args))
    images, captions = [tiny.image()] * 5, ["a cat", "???", "a dog", "?", "a bird"]
    pairs = [Pair(image, caption) for image, caption in zip(images, captions, strict=True)]
    calls = (
        lambda: explain(model, images, captions, batch_size=1),
        lambda: nibt.compare(model, *[[nibt.Caption(text) for text in captions]] * 2),
        lambda: nibt.regions(model, images, captions),
        lambda: nibt.measure(model, pairs, ["sparseness"]),
    )
    for call in calls:
        with pytest.raises(BadInput, match=r"finds no word in 2 of 5 captions \('\?\?\?', '\?'\): leave them out"):
            call()
    assert not traced
