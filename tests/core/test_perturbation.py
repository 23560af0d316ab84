"""Tests of ``nibt.core.perturbation``."""

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from nibt.core import side as sides
from nibt.core.perturbation import backdrop, item_rng, mask_chunks, masker, perturbed
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.errors import Unsupported
from nibt.methods.coalition_values import Shapley
from nibt.methods.masks import RISE, Occlusion
from tests import linear, tiny
from tests.helpers import both_sides, count_hooks, make_side, varied_kinds
from tests.suites import few


@both_sides
@varied_kinds
def test_masker_gives_the_same_scores_for_a_stack_of_masks(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    width = of.units.count if isinstance(of.units, Grid) else of.units.explained.shape[1]
    keep = torch.rand(5, 2, width, generator=torch.Generator().manual_seed(0))
    score = masker(of, of.units)
    together = score(keep)
    assert together.shape == (5, 2)
    for one, actual in zip(keep, together, strict=True):
        torch.testing.assert_close(score(one), actual, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(score(torch.ones(2, width)), of.value(), atol=1e-6, rtol=1e-5)


METHODS = [RISE(37), Occlusion(), Shapley(60)]


@both_sides
@pytest.mark.parametrize("kind", few(["clip", "siglip naflex", "convnext", "coca"], ["clip", "convnext"]))
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_perturbation_methods_are_independent_of_the_batch_budget(
    kind: str, modality: str, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = make_side(tiny.model(kind), modality)
    large = method(of).scores
    calls = []
    hook = of.tower.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    try:
        for name, value in (("AT_ONCE", 3), ("BUDGET", 1)):
            monkeypatch.setattr(sides, name, value)
            calls.clear()
            torch.testing.assert_close(method(of).scores, large, atol=1e-6, rtol=1e-5)
        assert len(calls) >= 3, "the budget allows one mask at a time"
    finally:
        hook.remove()


TEXTS = ("clip", "siglip", "own vit", "own text both ways", "coca", "bert", "roberta", "mt5", "m2m", "clip adapted")


@pytest.mark.parametrize("kind", ["clip", "siglip naflex", "convnext"])
@pytest.mark.parametrize("hide", ["mean", "blur", "noise"])
def test_masker_blends_the_image_with_the_backdrop(kind: str, hide: str) -> None:
    of = make_side(tiny.model(kind), "image")
    if (kind, hide) == ("siglip naflex", "blur"):
        with pytest.raises(Unsupported, match="hide must be mean or noise for"):
            backdrop(of, hide)
        return
    behind, everything = backdrop(of, hide, 3), torch.ones(2, of.units.count)  # pyright: ignore
    values = torch.zeros_like(of.inputs.values) if behind is None else behind
    if kind == "siglip naflex":  # padding stays unchanged
        values = values * of.inputs.extra["pixel_attention_mask"][..., None]
    hidden = of.score(of.tower.encode(replace(of.inputs, values=values)))
    for smooth in (False, True):
        score = masker(of, of.units, smooth, hide, 3)
        torch.testing.assert_close(score(everything), of.value(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(score(0 * everything), hidden, atol=1e-5, rtol=1e-5)
    half = (torch.arange(of.units.count) % 2).expand(3, 2, -1).float()  # pyright: ignore
    for actual in masker(of, of.units, False, hide, 3)(half):
        torch.testing.assert_close(actual, masker(of, of.units, False, hide, 3)(half[0]), atol=1e-5, rtol=1e-5)


def test_masker_with_the_mean_color_scales_the_pixels() -> None:
    """Equal to the bit: pixels are only scaled."""
    of, keep = make_side(tiny.model("clip"), "image"), torch.rand(2, 16, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(keep.reshape(1, 2, 4, 4), (32, 32), mode="bilinear")[0]
    by_hand = of.score(of.tower.encode(replace(of.inputs, values=of.inputs.values * pixels[:, None])))
    assert torch.equal(masker(of, of.units, smooth=True)(keep), by_hand)


@pytest.mark.parametrize(
    ("of", "shorter"),
    [(make_side(tiny.model("clip"), "image"), 32), (linear.image_side(), linear.ROWS * linear.PATCH)],
    ids=["square", "oblong"],
)
def test_blur_equals_scipy(of: Side, shorter: int) -> None:
    sigma = shorter * 10 / 224
    expected = gaussian_filter(of.inputs.values, sigma, mode="mirror", axes=(2, 3), radius=int(np.ceil(3 * sigma)))
    np.testing.assert_allclose(backdrop(of, "blur"), expected, atol=1e-5)


def test_noise_depends_on_the_item_only() -> None:
    of = make_side(tiny.model("clip"), "image")
    noise = backdrop(of, "noise", 1)
    assert noise is not None
    alone = replace(of, trace=of.tower.trace(of.inputs.take([1])))
    assert torch.equal(noise[1], backdrop(alone, "noise", 1)[0])  # pyright: ignore
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, backdrop(of, "noise", 2))  # pyright: ignore
    assert abs(noise.mean()) < 0.05
    assert noise.std() == pytest.approx(1, abs=0.05)


def checksum(values: torch.Tensor) -> int:
    return zlib.crc32(values.float().numpy().tobytes())


@both_sides
def test_item_rng_is_seeded_by_the_seed_and_the_item(modality: str) -> None:
    inputs = make_side(tiny.model("clip"), modality).inputs
    for item in range(2):
        values = inputs.values[item] if inputs.words is None else inputs.values[item][inputs.words.explained[item]]
        wanted = np.random.default_rng((7, checksum(values), 3, 4)).random(5)
        assert np.array_equal(item_rng(inputs, item, 7, 3, 4).random(5), wanted)


def test_backdrop_of_noise_has_its_own_draws() -> None:
    of = make_side(tiny.model("clip"), "image")
    pixels = of.inputs.values
    for seed, noise in ((0, backdrop(of, "noise")), (5, backdrop(of, "noise", 5))):
        assert noise is not None
        for item, row in enumerate(noise):
            draws = np.random.default_rng((seed, checksum(pixels[item]), 1))
            assert np.array_equal(row, draws.standard_normal(pixels.shape[1:], np.float32))


def test_masker_removes_to_the_mean_color_by_default() -> None:
    of, keep = make_side(tiny.model("clip"), "image"), torch.rand(2, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(masker(of, of.units)(keep), masker(of, of.units, False, "mean", 0)(keep))
    assert torch.equal(masker(of, of.units, hide="noise")(keep), masker(of, of.units, False, "noise", 0)(keep))
    assert not torch.equal(masker(of, of.units, True)(keep), masker(of, of.units)(keep))


@both_sides
@pytest.mark.parametrize("count", [1, 2, 3])
def test_masker_takes_a_stack_of_any_size(modality: str, count: int) -> None:
    of = make_side(tiny.model("clip"), modality)
    width = of.units.count if isinstance(of.units, Grid) else of.units.explained.shape[1]
    keep, score = torch.rand(count, 2, width, generator=torch.Generator().manual_seed(0)), masker(of, of.units)
    torch.testing.assert_close(score(keep), torch.stack([score(one) for one in keep]), atol=1e-6, rtol=1e-5)


def test_mask_chunks_count_the_largest_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first map of a convolutional trunk may be the largest; the pixels stand for it where it was not kept."""
    of = make_side(tiny.model("convnext"), "image")
    sizes = [stream.numel() for stream in of.trace.streams if stream is not None]
    assert max(sizes) > min(sizes)
    monkeypatch.setattr(sides, "BUDGET", 2 * max(*sizes, of.inputs.values.numel()))
    assert [part.stop - part.start for part in mask_chunks(of, 20)] == [8, 8, 4], "4 times 2, without a graph"
    deep = replace(of, trace=of.tower.trace(of.inputs, of.tower.depth))
    assert deep.inputs.values.numel() > deep.trace.streams[-1].numel()
    monkeypatch.setattr(sides, "BUDGET", 2 * deep.inputs.values.numel())
    assert [part.stop - part.start for part in mask_chunks(deep, 20)] == [8, 8, 4]


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip naflex", "convnext", "bert"])
def test_perturbed_adds_uniform_noise(kind: str, modality: str) -> None:
    """The noise on a word is relative to the size of the embeddings of its caption."""
    of = make_side(tiny.model(kind), modality)
    before = of.inputs.values if modality == "image" else of.stem().hidden
    with perturbed(of, 0.1, 3, 4) as other:
        after = other.inputs.values if modality == "image" else other.stem().hidden
    for item, (plain, moved) in enumerate(zip(before, after, strict=True)):
        if modality == "text":
            explained = of.inputs.words.explained[item, : len(plain)]
            plain, moved = plain[explained], moved[explained]
        size = 1.0 if modality == "image" else float(plain.square().mean().sqrt())
        drawn = item_rng(of.inputs, item, 3, 2, 4).uniform(-1, 1, plain.shape)
        wanted = 0.1 * size * torch.from_numpy(drawn).float()
        if kind == "siglip naflex" and modality == "image":  # padding stays unchanged
            wanted = wanted * of.inputs.extra["pixel_attention_mask"][item][:, None]
        torch.testing.assert_close(moved - plain, wanted, atol=1e-5, rtol=1e-4)


@both_sides
@pytest.mark.parametrize("lowest", [0, 2])
def test_perturbed_keeps_the_layers_of_the_trace(modality: str, lowest: int) -> None:
    of = make_side(tiny.model("clip"), modality)
    of = replace(of, trace=of.tower.trace(of.inputs, lowest))
    with perturbed(of, 0.1, 0, 0) as other:
        kept = [stream is not None for stream in other.trace.streams]
    assert kept == [layer >= lowest for layer in range(of.tower.depth + 1)]


@pytest.mark.parametrize("kind", TEXTS)
def test_perturbed_moves_the_embeddings_of_words_only(kind: str) -> None:
    of = make_side(tiny.model(kind), "text")
    words, plain, blank = of.inputs.words, of.stem().hidden, of.tower.blank(of.inputs, None)
    assert words is not None
    before = count_hooks(of.model.module)
    with perturbed(of, 0.1, 0, 0) as other:
        moved, explained = other.stem().hidden - plain, words.explained[:, : plain.shape[1]]
        assert (moved[~explained] == 0).all()
        assert (moved[explained] != 0).any(-1).all()
        size = torch.stack([row[rows].square().mean().sqrt() for row, rows in zip(plain, explained, strict=True)])
        assert (moved.abs().amax((1, 2)) <= 0.1 * size + 1e-5).all()
        assert torch.equal(other.tower.blank(other.inputs, None), blank)
        assert not torch.allclose(other.value(), of.value(), atol=1e-6)
        put = other.score(other.stem().rest(other.stem().hidden[None]))[0]
        torch.testing.assert_close(put, other.value(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            masker(other, other.units)(torch.ones(explained.shape)), other.value(), atol=1e-4, rtol=1e-4
        )
    assert count_hooks(of.model.module) == before
    torch.testing.assert_close(of.tower.encode(of.inputs), of.trace.embedding)
    with pytest.raises(RuntimeError, match="stop"), perturbed(of, 0.1, 0, 0):
        raise RuntimeError("stop")
    assert count_hooks(of.model.module) == before
