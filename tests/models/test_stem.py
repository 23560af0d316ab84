"""Tests of ``Tower.stem``."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

from nibt.data.units import Grid, Words
from nibt.models._inputs import Cut, Inputs
from nibt.models._loading import load_model
from nibt.models.base import Tower
from tests import tiny
from tests.helpers import assert_embeddings_close, count_hooks, make_inputs
from tests.shared_models import module_state
from tests.suites import VARIED, few

SIDES = ("image", "text")


both_sides = pytest.mark.parametrize("side", SIDES)


every_kind = pytest.mark.parametrize("kind", few(tiny.ALL, VARIED))


def replay_equals_the_model(tower: Tower, stem: Cut, inputs: Inputs) -> None:
    assert_embeddings_close(stem.rest(stem.hidden[None])[0], tower.encode(inputs))


def states_in_a_batch_equal_each_alone(tower: Tower, stem: Cut, inputs: Inputs) -> None:
    states = torch.stack([stem.hidden, 0.5 * stem.hidden, stem.hidden.flip(0)]).requires_grad_()
    together = stem.rest(states)
    for state, actual in zip(states, together, strict=True):
        assert_embeddings_close(actual, stem.rest(state[None])[0])
    assert not torch.allclose(together[0], together[2], rtol=1e-2, atol=1e-2), "the state replaces that of the tower"
    (gradient,) = torch.autograd.grad(together.sum(), states)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax((1, 2, 3)) > 0).all()


def rows_match_the_units(tower: Tower, stem: Cut, inputs: Inputs) -> None:
    if isinstance(stem.units, Words):
        assert stem.units.explained.shape == stem.hidden.shape[:2]
    else:
        assert stem.units.prefix + stem.units.count <= stem.hidden.shape[1]


def blank_equals_the_blank_input(tower: Tower, stem: Cut, inputs: Inputs) -> None:
    if tower.modality == "image":
        by_hand = tower.stem(replace(inputs, values=torch.full_like(inputs.values, tower.blank_value))).hidden
    else:
        padding = tower.embedder(torch.tensor(tower.pad[0])).detach()
        by_hand = torch.where(inputs.words.explained[..., None], padding, stem.hidden)
    assert_embeddings_close(tower.blank(inputs, None), by_hand)


def words_have_no_positions(tower: Tower) -> None:
    inputs = tower.prepare(["cat cat"])
    stem = tower.stem(inputs)
    assert_embeddings_close(stem.hidden, tower.embedder(inputs.values).detach())
    rows = inputs.words.explained[0].nonzero()[:, 0]
    assert torch.equal(stem.hidden[0, rows[0]], stem.hidden[0, rows[-1]]) or len(rows) > 2


def rows_are_independent_of_padding(tower: Tower) -> None:
    captions = ["two cars", "a small gray bird sleeping on the red mat"]
    together, alone = tower.prepare(captions), tower.prepare(captions[:1])
    rows = alone.values.shape[1]
    assert torch.equal(tower.stem(together).hidden[0, :rows], tower.stem(alone).hidden[0])
    own = tower.valid_tokens(together, tower.stem(together).hidden)
    assert own.sum(1).tolist() == [rows, together.values.shape[1]]


@every_kind
@both_sides
def test_stem_keeps_the_contract(kind: str, side: Any) -> None:
    tower = tiny.model(kind).tower(side)
    inputs = make_inputs(tower, 3)
    stem = tower.stem(inputs)
    for check in (
        replay_equals_the_model,
        states_in_a_batch_equal_each_alone,
        rows_match_the_units,
        blank_equals_the_blank_input,
    ):
        check(tower, stem, inputs)
    if side == "text":
        words_have_no_positions(tower)
        rows_are_independent_of_padding(tower)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "own vit", "bert", "convnext"])
def test_stem_leaves_no_trace(kind: str, side: Any) -> None:
    """Also after an error. The context managers behind this know no family."""
    model = tiny.fresh(kind)
    tower = model.tower(side)
    inputs, state = make_inputs(tower), module_state(model.module)
    weights = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    stem = tower.stem(inputs)
    stem.rest(stem.hidden[None] * 2)
    tower.blank(inputs, None)

    def explode(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    bomb = tower.blocks[-1].register_forward_pre_hook(explode)
    for broken in (lambda: tower.stem(inputs), lambda: stem.rest(stem.hidden[None])):
        with pytest.raises(RuntimeError, match="on purpose"):
            broken()
    bomb.remove()
    assert not count_hooks(model.module)
    assert module_state(model.module) == state
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.module.state_dict().items())
    assert_embeddings_close(stem.rest(stem.hidden[None])[0], tower.encode(inputs))


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        ("clip", lambda model: model.module.vision_model.pre_layrnorm),
        ("own vit", lambda model: model.module.visual.ln_pre),
        ("timm perception", lambda model: model.module.visual.trunk.norm_pre),
    ],
)
def test_stem_of_patches_comes_before_the_first_norm(kind: str, norm: Any) -> None:
    model = tiny.model(kind)
    inputs = make_inputs(model.image)
    first, layer = model.image.stem(inputs).hidden, model.image.trace(inputs).cut(0).hidden
    assert not torch.allclose(first, layer, atol=1e-2)
    torch.testing.assert_close(norm(model)(first).detach(), layer)


def test_stem_of_patches_has_positions() -> None:
    vision = tiny.model("clip").module.vision_model.embeddings
    inputs = make_inputs(tiny.model("clip").image, 1)
    patches = vision.patch_embedding(inputs.values).flatten(2).transpose(1, 2)
    by_hand = torch.cat([vision.class_embedding.expand(1, 1, -1), patches], 1) + vision.position_embedding.weight
    torch.testing.assert_close(tiny.model("clip").image.stem(inputs).hidden, by_hand.detach())


@pytest.mark.parametrize("kind", ["convnext", "resnet", "own resnet", "fastvit", "efficientnet"])
def test_stem_of_a_convolutional_trunk_is_its_first_map(kind: str) -> None:
    tower = tiny.model(kind).image
    inputs = make_inputs(tower)
    assert torch.equal(tower.stem(inputs).hidden, tower.trace(inputs).cut(0).hidden)


def test_naflex_padding_rows_are_not_valid_tokens() -> None:
    tower = tiny.model("siglip naflex").image
    inputs = tower.prepare([tiny.image(90, 20)])
    stem = tower.stem(inputs)
    assert isinstance(stem.units, Grid)
    assert int(tower.valid_tokens(inputs, stem.hidden).sum()) == stem.units.count < stem.hidden.shape[1]


@pytest.mark.parametrize("size", [(90, 30), (30, 90), (60, 60)])
def test_mask_pixels_of_naflex_masks_the_patches(size: tuple[int, int]) -> None:
    tower = tiny.model("siglip naflex").image
    inputs = tower.prepare([tiny.image(*size)])
    height, width = tower.extent(inputs)
    keep = torch.rand(1, height, width, generator=torch.Generator().manual_seed(0))
    patches = convert_image_to_patches(keep.expand(3, -1, -1), tower.processor.patch_size)
    by_hand = inputs.values[0, : len(patches)] * patches
    actual = tower.mask_pixels(inputs, keep).values[0]
    torch.testing.assert_close(actual[: len(patches)], by_hand)
    assert not actual[len(patches) :].any()


@pytest.mark.parametrize("dtype", few(["bfloat16", "float16"], ["bfloat16"]))
@pytest.mark.parametrize("kind", few(["clip", "siglip naflex", "own vit", "convnext", "bert"], ["clip", "bert"]))
def test_stem_works_in_half_precision(kind: str, dtype: str) -> None:
    built = tiny.ALL[kind]()
    model = load_model(built.module.to(getattr(torch, dtype)), processor=built.processor, tokenizer=built.tokenizer)
    for tower in (model.image, model.text):
        stem = tower.stem(make_inputs(tower))
        states = stem.hidden[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(stem.rest(states).sum(), states)
        assert gradient.dtype == stem.hidden.dtype == torch.float32
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", ["clip", "own vit", "bert"])
def test_threads_sharing_a_model_get_its_results(kind: str) -> None:
    model = tiny.model(kind)

    def work(turn: int) -> list[Tensor]:
        answers = []
        for side in SIDES:
            stem = model.tower(side).stem(make_inputs(model.tower(side), turn % 3 + 1))
            answers.append(stem.rest(torch.stack([stem.hidden, 0.5 * stem.hidden])).detach())
        return answers

    alone, barrier = [work(turn) for turn in range(3)], threading.Barrier(4)

    def race(turn: int) -> list[Tensor]:
        barrier.wait()
        return work(turn)

    with ThreadPoolExecutor(4) as pool:
        for turn, answers in enumerate(pool.map(race, range(8))):
            for actual, wanted in zip(answers, alone[turn % 3], strict=True):
                torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)
