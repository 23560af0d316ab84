"""Tests of ``nibt.engine.embeddings``."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import nibt
from nibt.engine.embeddings import Contributions
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption
from tests import tiny
from tests.engine.cuts import CAPTION
from tests.helpers import assert_close
from tests.suites import few

KINDS = ["clip", "siglip", "own vit", "coca", "bert", "convnext"]


CAPTIONS = list(tiny.CAPTIONS)


@pytest.mark.parametrize("kind", few(KINDS, ["clip", "bert", "convnext"]))
def test_explain_embeddings_of_an_image_equals_explain(kind: str) -> None:
    model = tiny.model(kind)
    actual = nibt.explain_embeddings(model, tiny.image(), encode(model.text, CAPTIONS), image_layer=1)
    for place, answer in enumerate(nibt.explain(model, tiny.image(), CAPTIONS, image_layer=1)):
        assert_close(actual[place].scores, answer.image.scores)
        path, wanted = actual[place].path, answer.image.path
        for name in ("at_input", "at_baseline", "sum", "gap"):
            torch.testing.assert_close(getattr(path, name), getattr(wanted, name), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            actual[place].special_token_share, answer.image.special_token_share, rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("kind", few(KINDS, ["clip", "bert", "convnext"]))
def test_explain_embeddings_of_a_caption_equals_explain(kind: str) -> None:
    model, images = tiny.model(kind), [tiny.image(seed=seed) for seed in range(3)]
    actual = nibt.explain_embeddings(model, nibt.Caption(CAPTIONS[0]), 7 * encode(model.image, images), text_layer=1)
    for place, answer in enumerate(nibt.explain(model, images, CAPTIONS[0], text_layer=1)):
        assert_close(actual[place].scores, answer.text.scores)
        assert actual[place].units.tokens == answer.text.units.tokens


@pytest.mark.parametrize("kind", few(["clip", "convnext"], ["clip"]))
def test_explain_embeddings_is_independent_of_their_number(kind: str) -> None:
    """Few embeddings use the backward mode, many the vectors of all tokens. Both average several layers."""
    model = tiny.model(kind)
    draws = torch.Generator().manual_seed(0)
    dim = encode(model.text, CAPTIONS).shape[1]
    many = F.normalize(torch.randn(200, dim, generator=draws), dim=-1)
    layer = "1,2" if kind == "clip" else 3
    actual = nibt.explain_embeddings(model, tiny.image(), many, layer=layer, steps=2)
    few = nibt.explain_embeddings(model, tiny.image(), many[:3], layer=layer, steps=2)
    assert_close(actual.scores[:3], few.scores)


@pytest.mark.parametrize(("kind", "tolerance"), [("clip", 0.005), ("convnext", 0.003)])
def test_explain_embeddings_takes_a_tolerance(kind: str, tolerance: float) -> None:
    model, options = tiny.model(kind), {"tolerance": tolerance, "steps": 1, "image_layer": 1, "views": 1}
    actual = nibt.explain_embeddings(model, tiny.image(), encode(model.text, CAPTIONS), **options)
    for place, answer in enumerate(nibt.explain(model, tiny.image(), CAPTIONS, **options)):
        assert_close(actual[place].scores, answer.image.scores)
        assert int(actual[place].path.steps) == int(answer.image.path.steps)
    assert len(set(actual.path.steps.tolist())) > 1, "all embeddings have the same number of steps"


def test_explain_embeddings_rejects_embeddings_without_direction() -> None:
    model = tiny.model("clip")
    good = encode(model.text, CAPTIONS)
    for bad, message in (
        (good[0], "shape"),
        (good[:, :3], "shape"),
        (good[:0], "shape"),
        (0 * good, r"not zero \(got the largest number 0.0 at 0\)"),
        (good / 0, "must be finite"),
    ):
        with pytest.raises(BadInput, match=message):
            nibt.explain_embeddings(model, tiny.image(), bad)


def test_contributions_explain_many_captions_at_once() -> None:
    model = tiny.model("clip")
    table = nibt.contributions(model, tiny.image(), layer=1)
    together = table.explain(CAPTIONS)
    for place, caption in enumerate(CAPTIONS):
        alone = table.explain(caption)
        assert_close(together[place].scores, alone.scores)
        torch.testing.assert_close(together[place].path.gap, alone.path.gap, rtol=1e-3, atol=1e-6)
    assert_close(table.explain(encode(model.text, CAPTIONS)).scores, together.scores)


def test_contributions_meet_a_tolerance() -> None:
    model = tiny.model("clip")
    actual = nibt.contributions(model, tiny.image(), layer=1, steps=1, tolerance=0.01)
    assert int(actual.facts["steps"]) > 1
    moved = actual.after - actual.before
    assert (actual.vectors.sum(0) - moved).norm() <= 0.01 * moved.norm()


@pytest.mark.parametrize("kind", few(["clip", "siglip", "own vit", "efficientnet"], ["clip", "efficientnet"]))
def test_contributions_explain_as_explain_does(kind: str) -> None:
    model = tiny.model(kind)
    contributed = nibt.contributions(model, tiny.image(), steps=3)
    for caption in tiny.CAPTIONS[:3]:
        expected = nibt.explain(model, tiny.image(), caption, image_steps=3)
        assert isinstance(expected, nibt.Explanation)
        answer = contributed.explain(caption)
        torch.testing.assert_close(answer.scores, expected.image.scores, atol=1e-5, rtol=0)
        assert answer.path is not None
        assert expected.image.path is not None
        for name in ("at_input", "at_baseline", "sum", "gap"):
            torch.testing.assert_close(
                getattr(answer.path, name), getattr(expected.image.path, name), atol=1e-5, rtol=0
            )
        assert answer.grid.shape == expected.image.grid.shape


def test_contributions_are_saved_compactly(tmp_path: Path) -> None:
    model = tiny.model("clip")
    built = nibt.contributions(model, tiny.image(), steps=3)
    built.save(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_size < 2 * built.vectors.numel() + 4 * built.after.numel() + 1500
    read = Contributions.load(tmp_path / "x.safetensors", model)
    scores = built.explain(CAPTION).scores
    torch.testing.assert_close(read.explain(CAPTION).scores, scores, atol=2e-3 * float(scores.abs().max()), rtol=0)
    with pytest.raises(BadInput, match="have no model"):
        Contributions.load(tmp_path / "x.safetensors").explain(CAPTION)
    with pytest.raises(BadInput, match="must have the weights"):
        read.explain(CAPTION, tiny.model("clip odd patch"))
    with pytest.raises(BadInput, match="must be a tensor or an array"):
        read.explain(torch.ones(3))
    with pytest.raises(BadOption, match=r"must end in \.safetensors"):
        built.save(tmp_path / "x.json")
    (tmp_path / "y.safetensors").write_text("nothing")
    with pytest.raises(BadInput, match="has no contributions"):
        Contributions.load(tmp_path / "y.safetensors")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0])
def test_contributions_refuse_embeddings_without_direction(value: float) -> None:
    explained = nibt.contributions(tiny.model("clip"), tiny.image(), method="occlusion")
    for embedding in (torch.full_like(explained.after, value), torch.full((2, len(explained.after)), value)):
        with pytest.raises(BadInput, match="embeddings must be finite and not zero"):
            explained.explain(embedding)
