"""Tests of ``nibt.models.base``."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nibt.data.units import Grid, Words
from nibt.errors import BadOption, CannotLoad, Unsupported
from nibt.models._attention import record_attentions
from nibt.models._loading import load_model
from nibt.models._tower import Trace, first
from nibt.models.base import Inputs, Tower
from tests import openai_clip, tiny
from tests.helpers import assert_embeddings_close, count_hooks, make_inputs
from tests.shared_models import module_state
from tests.suites import COVER, VARIED, few

SIDES = ("image", "text")


def public(tower: Tower, inputs: Inputs) -> Tensor:
    """Return the embedding by the public API of the model."""
    with torch.no_grad():
        module = tower.root  # the dual encoder inside of a detector
        if isinstance(module, openai_clip.CLIP) or type(module).__name__.startswith("Blip"):
            return tower.run(inputs)  # test_families.py compares it with the class itself
        if hasattr(module, "encode_image"):
            encode = module.encode_image if tower.modality == "image" else module.encode_text
            return encode(inputs.values, normalize=False)
        if tower.modality == "text":
            output = module.get_text_features(input_ids=inputs.values, **inputs.extra)
        else:
            output = module.get_image_features(pixel_values=inputs.values, **inputs.extra)
        embedding = getattr(output, "pooler_output", output)
        return embedding[:, 0] if embedding.ndim == 3 else embedding  # FLAVA projects all tokens


ONE_ROW = {
    *((kind, side) for kind in ("clip", "clip legacy end", "clip adapted", "own vit") for side in SIDES),
    *((kind, side) for kind in ("long clip", "metaclip 2", "clipseg", "owlvit", "owlv2 detector") for side in SIDES),
    *((kind, "image") for kind in ("timm vit", "timm hybrid", "timm eva")),
    ("chinese clip", "image"),
    ("altclip", "image"),
    ("clip pair", "text"),
    ("siglip", "text"),
    ("siglip naflex", "text"),
    ("own text apart", "text"),
    ("own text both ways", "text"),
    ("coca", "text"),
    ("convnext", "text"),
}
"""Kinds and sides whose head reads one row of a known block. Heads that average, or pool by attention, read many rows.
"""


both_sides = pytest.mark.parametrize("side", SIDES)


every_kind = pytest.mark.parametrize("kind", few(tiny.ALL, COVER))


varied_towers = pytest.mark.parametrize("kind", ["clip", "own vit", "bert", "convnext"])


def replay_from_every_layer_equals_the_model(tower: Tower, trace: Trace) -> None:
    wanted = public(tower, trace.inputs)
    assert_embeddings_close(trace.embedding, wanted)
    for layer in range(tower.depth + 1):
        cut = trace.cut(layer)
        assert_embeddings_close(cut.rest(cut.hidden[None])[0], wanted)


def embedding_depends_on_the_inputs(tower: Tower, trace: Trace) -> None:
    """Without this, the other checks would pass for a tower with a constant output."""
    first, second, _ = trace.embedding.flatten(1)
    assert F.cosine_similarity(first, second, dim=0) < 0.9999


def states_in_a_batch_equal_each_alone(tower: Tower, trace: Trace) -> None:
    for layer in {0, tower.depth // 2, tower.depth - 1, tower.depth}:
        cut = trace.cut(layer)
        states = torch.stack([cut.hidden, 0.5 * cut.hidden, cut.hidden.flip(0), cut.hidden + 0.1])
        together = cut.rest(states)
        for state, actual in zip(states, together, strict=True):
            assert_embeddings_close(actual, cut.rest(state[None])[0])


def last_equals_the_whole_block(tower: Tower, trace: Trace) -> None:
    """Equal embeddings, and equal gradients at the input of the block, at the states themselves and at others."""
    cut, read = trace.cut(tower.depth - 1), tower.head_inputs(trace.inputs)
    args, kwargs = trace.calls[-1]
    if tower.last(trace.streams[-2], read, args, kwargs) is None:
        return
    for states in (cut.hidden, 0.3 * cut.hidden.flip(0) + 0.1):
        state = states.clone().requires_grad_()
        whole = tower.head(first(tower.blocks[-1](state, *args, **kwargs)), read)
        row = tower.last(state, read, args, kwargs)
        assert_embeddings_close(row, whole)
        pull = torch.randn(whole.shape, generator=torch.Generator().manual_seed(0))
        wanted, got = (torch.autograd.grad(embedding, state, pull)[0] for embedding in (whole, row))
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def rows_match_the_units(tower: Tower, trace: Trace) -> None:
    for layer in range(tower.depth + 1):
        cut = trace.cut(layer)
        rows = cut.hidden.shape[1]
        if isinstance(cut.units, Words):
            assert cut.units.explained.shape == (3, rows)
            assert max(map(len, cut.units.tokens)) <= rows
            for words, explained in zip(cut.units.words, cut.units.explained, strict=True):
                spelt = [row for word in words for row in word.tokens]
                assert sorted(spelt) == explained.nonzero()[:, 0].tolist()
        elif (mask := trace.inputs.extra.get("pixel_attention_mask")) is not None:  # NaFlex pads
            assert cut.units.count == mask[0].sum() <= rows
        else:
            assert cut.units.prefix + cut.units.count == rows


def blank_equals_the_blank_input_at_every_layer(tower: Tower, trace: Trace) -> None:
    """The expected inputs have the mean color in place of the image, and the padding's embedding in place of every
    word's.
    """
    inputs = trace.inputs
    if tower.modality == "image":
        blank_trace = tower.trace(replace(inputs, values=torch.full_like(inputs.values, tower.blank_value)))
    else:
        embedder, explained = tower.embedder, inputs.words.explained
        padding = embedder(torch.tensor(tower.pad[0])).detach()
        handle = embedder.register_forward_hook(
            lambda module, args, out: torch.where(explained[..., None], padding, out)
        )
        try:
            blank_trace = tower.trace(inputs)
        finally:
            handle.remove()
    for layer in range(tower.depth + 1):
        blank = tower.blank(inputs, layer)
        by_hand = blank_trace.cut(layer).hidden
        # one row and three rows round differently, and blocks accumulate that
        torch.testing.assert_close(blank, by_hand, rtol=1e-4, atol=1e-5 * max(1.0, float(by_hand.abs().max())))


def blank_is_independent_of_the_content(tower: Tower, trace: Trace) -> None:
    if tower.modality == "image":
        one, other = (tower.prepare([tiny.image(seed=seed)]) for seed in (1, 2))
    else:
        one, other = (tower.prepare([caption]) for caption in ("two cats", "red dog"))
    if one.values.shape == other.values.shape:
        assert torch.equal(tower.blank(one, 1), tower.blank(other, 1))
    assert not torch.allclose(tower.trace(one).cut(1).hidden, tower.blank(one, 1))


CONTRACT = (
    replay_from_every_layer_equals_the_model,
    embedding_depends_on_the_inputs,
    states_in_a_batch_equal_each_alone,
    last_equals_the_whole_block,
    rows_match_the_units,
    blank_equals_the_blank_input_at_every_layer,
    blank_is_independent_of_the_content,
)


@every_kind
@both_sides
def test_tower_keeps_the_contract(kind: str, side: Any) -> None:
    tower = tiny.model(kind).tower(side)
    trace = tower.trace(make_inputs(tower, 3))
    for check in CONTRACT:
        check(tower, trace)
    args, kwargs = trace.calls[-1]
    one_row = tower.last(trace.streams[-2], tower.head_inputs(trace.inputs), args, kwargs) is not None
    assert one_row or (kind, side) not in ONE_ROW


@both_sides
@varied_towers
def test_trace_leaves_no_trace(kind: str, side: Any) -> None:
    """Also after an error. The context managers behind this know no family."""
    model = tiny.fresh(kind)
    tower = model.tower(side)
    inputs, state = make_inputs(tower), module_state(model.module)
    weights = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    world = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()

    def explode(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    bomb = tower.blocks[-1].register_forward_pre_hook(explode)
    for broken in (lambda: tower.trace(inputs), lambda: tower.blank(inputs, 0)):
        with pytest.raises(RuntimeError, match="on purpose"):
            broken()
    bomb.remove()
    cut = tower.trace(inputs).cut(tower.depth // 2)
    states = cut.hidden[None].clone().requires_grad_()
    torch.autograd.grad(cut.rest(states).sum(), states)
    tower.blank(inputs, 0)
    assert not count_hooks(model.module)
    assert module_state(model.module) == state
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.module.state_dict().items())
    assert torch.equal(world[0], torch.get_rng_state())
    assert world[1:] == (torch.get_num_threads(), torch.get_default_dtype())
    assert_embeddings_close(tower.trace(inputs).embedding, public(tower, inputs))


@both_sides
@varied_towers
def test_layers_out_of_range_are_rejected(kind: str, side: Any) -> None:
    tower = tiny.model(kind).tower(side)
    for layer in (-1, tower.depth + 1):
        with pytest.raises(BadOption, match=rf"between 0 and {tower.depth} for this {side} tower \(got {layer}\)"):
            tower.trace(make_inputs(tower)).cut(layer)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "own vit", "timm vit"])
def test_hooked_last_block_runs_whole(kind: str, side: Any) -> None:
    """A hook of the user must see the block, and may change its output."""
    tower = tiny.fresh(kind).tower(side)
    plain = tower.trace(make_inputs(tower))
    handle = tower.blocks[-1].register_forward_hook(lambda module, args, out: first(out).flip(-1))
    trace = tower.trace(make_inputs(tower))
    cut = trace.cut(tower.depth - 1)
    assert_embeddings_close(cut.rest(cut.hidden[None])[0], trace.embedding)
    assert not torch.allclose(trace.embedding, plain.embedding)
    handle.remove()


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_unknown_argument_runs_the_block_whole(kind: str) -> None:
    tower = tiny.model(kind).text
    trace = tower.trace(make_inputs(tower))
    args, kwargs = trace.calls[-1]
    assert tower.last(trace.streams[-2], tower.head_inputs(trace.inputs), args, {**kwargs, "something": 1}) is None


def test_blank_is_cached_until_the_weights_change() -> None:
    for kind, side in (("clip", "image"), ("clip", "text"), ("resnet", "image")):
        model = tiny.fresh(kind)
        tower, calls = model.tower(side), []
        inputs = make_inputs(tower)
        tower.blocks[0].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        first, count = tower.blank(inputs, 1), len(calls)
        assert torch.equal(first, tower.blank(inputs, 1))
        assert len(calls) == count
        weight = next(tower.blocks[0].parameters())
        with torch.no_grad():
            weight.add_(0.1)
        model.renewed()
        second = tower.blank(inputs, 1)
        assert not torch.allclose(first, second)
        weight.data = weight.data - 0.1  # not counted as a change in place
        model.renewed()
        torch.testing.assert_close(tower.blank(inputs, 1), first)


def test_blank_states_of_all_layers_take_two_passes() -> None:
    """The layer that is explained, then all layers, through which a score is distributed."""
    tower, calls = tiny.fresh("clip").image, []
    inputs = make_inputs(tower)
    tower.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    tower.blank(inputs, tower.depth - 1)
    for layer in reversed(range(tower.depth + 1)):
        tower.blank(inputs, layer)
    assert len(calls) == 2


def test_blank_depends_on_running_statistics() -> None:
    model = tiny.fresh("resnet")
    inputs = make_inputs(model.image)
    first = model.image.blank(inputs, 4)
    for name, buffer in model.module.named_buffers():
        if "running_mean" in name:
            buffer.add_(0.5)
    assert not torch.allclose(first, model.renewed().image.blank(inputs, 4))


@pytest.mark.slow
def test_blank_cache_is_bounded() -> None:
    tower = tiny.model("convnext").image
    for width in range(32, 32 * 80, 32):
        tower.blank(Inputs(torch.zeros(1, 3, 32, width)), 3)
    assert len(tower.kept["blanks"]) <= 64


def test_weights_hash_distinguishes_weights() -> None:
    model, again = tiny.fresh("clip"), tiny.fresh("clip")
    assert model.weights_hash == again.weights_hash != tiny.model("clip legacy end").weights_hash
    with torch.no_grad():
        next(model.module.parameters()).add_(1e-3)
    assert model.weights_hash != again.weights_hash


@both_sides
@pytest.mark.parametrize("kind", few(["clip", "siglip", "own vit", "resnet", "bert"], ["clip", "own vit"]))
def test_wrong_head_is_rejected(kind: str, side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tiny.KINDS[kind]()
    tower = type(tiny.model(kind).tower(side))
    right = tower.head
    monkeypatch.setattr(tower, "head", lambda *args: right(*args).flip(-1))
    with pytest.raises(CannotLoad, match=rf"(?s)cannot be cut.*layer 0 of \d.*its {side} tower"):
        load_model(built.module, processor=built.processor, tokenizer=built.tokenizer)


def test_head_with_nan_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    built = tiny.KINDS["clip"]()
    monkeypatch.setattr(
        type(tiny.model("clip").image), "head", lambda self, stream, read: stream[:, 0, :12] * torch.nan
    )
    with pytest.raises(CannotLoad, match="cosine nan"):
        load_model(built.module, processor=built.processor)


@pytest.mark.parametrize("kind", few(["clip", "own vit", "convnext", "mt5", "siglip naflex"], ["clip", "mt5"]))
def test_threads_sharing_a_model_get_its_results(kind: str) -> None:
    model = tiny.model(kind)
    batches = {side: [make_inputs(model.tower(side), count) for count in (1, 2, 3)] for side in SIDES}

    def work(turn: int) -> list[Tensor]:
        answers = []
        for side in SIDES:
            tower, inputs = model.tower(side), batches[side][turn % 3]
            cut = tower.trace(inputs).cut(1)
            states = torch.stack([cut.hidden, tower.blank(inputs, 1)]).requires_grad_()
            answers += torch.autograd.grad(cut.rest(states).square().sum(), states)
            if side == "text":
                with tower.blend_to_padding(torch.full(inputs.values.shape, 0.5)):
                    answers.append(tower.encode(inputs))
        return answers

    alone = [work(turn) for turn in range(3)]
    barrier = threading.Barrier(4)

    def race(turn: int) -> list[Tensor]:
        barrier.wait()
        return work(turn)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(race, range(12)))
    for turn, answers in enumerate(together):
        for actual, wanted in zip(answers, alone[turn % 3], strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


class TestWhole:
    @pytest.mark.parametrize("kind", few(tiny.ANY_SIZE, COVER))
    @pytest.mark.parametrize("size", [(90, 30), (30, 90), (50, 50)])
    def test_whole_images_are_seen_by_towers_of_any_size(self, kind: str, size: tuple[int, int]) -> None:
        model = tiny.fresh(kind, resize="whole")
        inputs = model.image.prepare([tiny.image(*size)])
        trace = model.image.trace(inputs)
        wanted = model.image.encode(inputs)
        for layer in range(model.image.depth + 1):
            cut = trace.cut(layer)
            assert isinstance(cut.units, Grid)
            assert cut.units.count + cut.units.prefix == cut.hidden.shape[1]
            assert (cut.units.columns > cut.units.rows) == (size[0] > size[1])
            two = cut.rest(torch.stack([cut.hidden, cut.hidden]))
            assert_embeddings_close(
                two[1], wanted, 5e-5
            )  # two rows round differently, and a deep convolutional trunk amplifies that
        region = inputs.regions[0]
        assert (region.left, region.top, region.width, region.height) == (0, 0, *size)

    @pytest.mark.parametrize("kind", few(tiny.ANY_SIZE, COVER))
    def test_image_size_sets_the_number_of_cells(self, kind: str) -> None:
        small, large = (tiny.fresh(kind, resize="whole", image_size=size) for size in (96, 192))
        cells = [
            model.image.trace(model.image.prepare([tiny.image(64, 64)])).cut(0).units.count for model in (small, large)
        ]
        assert cells[1] == 4 * cells[0]

    @pytest.mark.parametrize("kind", tiny.ONE_SIZE)
    def test_whole_is_rejected_by_towers_of_one_size(self, kind: str) -> None:
        with pytest.raises(Unsupported, match="one size only"):
            tiny.fresh(kind, resize="whole")

    @pytest.mark.parametrize("kind", ["clip", "siglip"])
    def test_image_size_works_without_whole(self, kind: str) -> None:
        model = tiny.fresh(kind, image_size=48)
        inputs = model.image.prepare([tiny.image(90, 30)])
        assert inputs.values.shape[-2:] == (48, 48)
        assert model.image.trace(inputs).cut(0).units.count == (48 // model.image.patch) ** 2


def test_naflex_keeps_the_aspect_of_images() -> None:
    tower = tiny.model("siglip naflex").image
    images = [tiny.image(90, 30), tiny.image(30, 90), tiny.image(60, 60)]
    assert len({tower.group(image) for image in images}) == 3
    grids = [tower.trace(tower.prepare([image])).cut(1).units for image in images]
    assert grids[0].columns > grids[0].rows
    assert grids[1].rows > grids[1].columns
    assert grids[2].rows == grids[2].columns


@pytest.mark.parametrize("dtype", few(["bfloat16", "float16"], ["bfloat16"]))
@pytest.mark.parametrize("kind", few([*VARIED, "siglip", "own vit", "resnet", "bert"], VARIED))
def test_towers_work_in_half_precision(kind: str, dtype: str) -> None:
    built = tiny.KINDS[kind]()
    module = built.module.to(getattr(torch, dtype))
    model = load_model(module, processor=built.processor, tokenizer=built.tokenizer)
    assert model.dtype == dtype
    for tower in (model.image, model.text):
        cut = tower.trace(make_inputs(tower)).cut(1)
        assert cut.hidden.dtype == torch.float32 == tower.blank(make_inputs(tower), 1).dtype
        states = cut.hidden[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cut.rest(states).sum(), states)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", few(tiny.KINDS, COVER))
def test_empty_inputs_have_no_words_and_no_content(kind: str) -> None:
    model = tiny.model(kind)
    text, image = model.text.empty_inputs(), model.image.empty_inputs()
    assert text.words is not None
    assert text.words.words == ((),)
    assert not text.words.explained.any()
    assert text.words.explained.shape == text.values.shape
    assert torch.equal(image.values, model.image.blank_inputs(image).values)
    for tower, inputs in ((model.text, text), (model.image, image)):
        embedding = tower.encode(inputs)
        assert len(embedding) == 1
        assert embedding.isfinite().all()
        assert_embeddings_close(embedding, public(tower, inputs))


def test_attentions_of_an_image_and_a_caption() -> None:
    model = tiny.model("siglip")
    weights = model.attentions(tiny.image())
    recorded = record_attentions(model.image.trace(model.image.prepare([tiny.image()]))).all
    assert [tuple(block.shape) for block in weights] == [*[(3, 25, 25)] * 3, (3, 1, 25)], "the pooling is the last"
    for block, record in zip(weights, recorded, strict=True):
        assert torch.equal(block, record.weights[0])
        torch.testing.assert_close(block.sum(-1), torch.ones(block.shape[:2]))
        assert not block.requires_grad
    assert [tuple(block.shape) for block in model.attentions("a cat")] == [(2, 16, 16)] * 4
    assert count_hooks(model.module) == 0


@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_towers_without_attentions_say_so(kind: str) -> None:
    with pytest.raises(Unsupported, match="has no attention over all of its tokens: use a model with a plain ViT"):
        tiny.model(kind).attentions(tiny.image())
