"""Tests of ``nibt.heads.decompose``."""

from typing import Any

import pytest
import torch

import nibt
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, NibtError, Unsupported
from nibt.heads.decomposition import Decomposition
from tests import tiny
from tests.suites import few


def decomposed(*arguments: Any, **options: Any) -> Decomposition:
    result = nibt.decompose(*arguments, **options)
    assert isinstance(result, Decomposition)
    return result


@pytest.mark.parametrize(
    ("model", "side"), few([("scenes", "image"), ("scenes", "text"), ("lite", "text")], [("scenes", "image")])
)
def test_sum_is_the_similarity_of_shipped_models(model: str, side: Any) -> None:
    pair = Scenes(count=1)[0]
    result = decomposed(model, pair.image, pair.caption, side=side)
    loaded = nibt.load_model(model)
    embeddings = [
        loaded.tower(name).encode(loaded.tower(name).prepare([item]))
        for name, item in (("image", pair.image), ("text", pair.caption))
    ]
    assert result.similarity == pytest.approx(float(torch.cosine_similarity(*embeddings)), abs=1e-6)
    assert result.sum == pytest.approx(result.similarity, abs=1e-6)
    assert result.gap == pytest.approx(result.similarity - result.sum, abs=1e-9)


@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize(
    "kind", few(["clip", "siglip", "siglip naflex", "own vit", "timm eva", "altclip", "blip", "tipsv2"], ["siglip"])
)
def test_sum_is_the_similarity(kind: str, side: Any) -> None:
    result = decomposed(tiny.model(kind), tiny.image(), tiny.CAPTIONS[0], side=side)
    assert abs(result.gap) < 1e-6
    frame = result.to_frame()
    assert frame["score"].sum() == pytest.approx(result.similarity, abs=1e-5)
    assert len(frame) == result.rest.numel() + len(result.perceptrons) + 2
    explained = nibt.explain(tiny.model(kind), tiny.image(), tiny.CAPTIONS[0], "random")
    assert isinstance(explained, nibt.Explanation)
    assert result.similarity == pytest.approx(explained.similarity, abs=1e-6)
    shape = explained.image.grid.shape if side == "image" else (len(explained.text.tokens),)
    assert result.heads.shape[2:] == shape


@pytest.mark.parametrize("caption", ["two cats on a table", "a guitar", "the of"])
def test_notes_on_the_match_and_the_words_are_those_of_an_explanation(caption: str) -> None:
    """Notes on maps that start from a baseline, such as noise, are only of explanations."""
    result = decomposed("lite", "sample:coffee", caption, side="text")
    explained = nibt.explain("lite", "sample:coffee", caption, "ones")
    assert isinstance(explained, nibt.Explanation)
    assert result.gravest is not None
    assert [note for note in result.notes if note.code != "note"] == [
        note for note in explained.notes if note.code not in ("note", "scores")
    ]
    assert Decomposition.from_json(result.to_json()).notes == result.notes


def test_lists_are_paired() -> None:
    model = tiny.model("clip")
    results = nibt.decompose(model, [tiny.image(), tiny.image(seed=1)], "a cat")
    assert isinstance(results, list)
    assert results == [decomposed(model, tiny.image(seed=seed), "a cat") for seed in (0, 1)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nibt.decompose("scenes", "sample:scene", "a cat", side="both"),
            BadOption,
            "side must be image or text",
        ),
        (
            lambda: nibt.decompose("lite", "sample:scene", "a cat"),
            Unsupported,
            "image tower .*or try the other side",
        ),
        (
            lambda: nibt.decompose(tiny.model("swin"), tiny.image(), "a cat"),
            Unsupported,
            "image tower cannot be decomposed",
        ),
        (lambda: nibt.decompose(tiny.model("vit bert"), tiny.image(), "a cat"), Unsupported, "its head is not linear"),
        (lambda: nibt.decompose("scenes", "sample:scene", " "), BadInput, "caption is blank"),
    ],
)
def test_errors_say_what_to_do(call: Any, error: type[NibtError], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
