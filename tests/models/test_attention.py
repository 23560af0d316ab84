"""Tests of ``nibt.models._attention``."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack as modes
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nibt.errors import BadOption, Unsupported
from nibt.models._attention import AttentionRecord, AttentionRecorder, record_attentions
from nibt.models._inputs import Inputs
from nibt.models._loading import load_model
from tests import helpers, tiny
from tests.helpers import assert_close
from tests.shared_models import module_state
from tests.suites import COVER, few

BOTH = [(kind, side) for kind in tiny.KINDS for side in ("image", "text")]


SEEN = [(kind, side) for kind, side in BOTH if side == "text" or kind not in tiny.CONVOLUTIONAL]


ENCODERS = ("bert", "roberta", "mt5", "m2m")


HUGGING_FACE = [
    (kind, side)
    for kind in ("clip", "clip legacy end", "siglip", "siglip naflex", *ENCODERS)
    for side in ("image", "text")
    if side == "text" or kind not in ENCODERS
]


TIMM = ["timm vit", "timm vit average", "timm siglip", "timm relative places", "timm hybrid", "timm eva"]


make_inputs = partial(helpers.make_inputs, first_seed=1)


close = partial(assert_close, share=1e-6, least=1e-6, rtol=1e-5)


def score(embedding: Tensor) -> Tensor:
    """Return a number that depends on the whole embedding."""
    return (embedding * torch.linspace(-1, 2, embedding.shape[-1])).sum(-1).tanh()


def gradients(embedding: Tensor, at: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(score(embedding).sum(), at, retain_graph=True)


@contextmanager
def watched(root: nn.Module) -> Iterator[list[Tensor]]:
    """Record the weights that the eager attention of Transformers returns."""
    seen: list[Tensor] = []

    def after(module: nn.Module, args: Any, out: Any) -> None:
        if isinstance(out, tuple) and isinstance(out[-1], Tensor) and not any(out[-1] is one for one in seen):
            seen.append(out[-1])

    handles = [part.register_forward_hook(after) for part in root.modules() if type(part).__name__.endswith("ttention")]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def implementation(module: nn.Module, name: str) -> None:
    for part in module.modules():
        if hasattr(part, "config"):
            part.config._attn_implementation = name
            if name == "eager":  # some versions of T5 return their weights only on request
                part.config.output_attentions = True


@pytest.mark.parametrize(("kind", "side"), few(HUGGING_FACE, HUGGING_FACE[:4]))
def test_attentions_of_the_fused_kernel_equal_eager_attention(kind: str, side: Any) -> None:
    seen = record_attentions((tower := tiny.model(kind).tower(side)).trace(make_inputs(tower)))
    fresh = tiny.fresh(kind)
    implementation(fresh.module, "eager")
    other = fresh.tower(side)
    with watched(nn.ModuleList(other.blocks)) as eager:
        embedding = other.run(make_inputs(other))
    assert len(eager) == tower.depth == len(seen.blocks)
    for actual, wanted in zip(seen.blocks, eager, strict=True):
        close(actual.weights, wanted)
    at = [one.weights for one in seen.blocks]
    for actual, wanted in zip(gradients(seen.embedding, at), gradients(embedding, eager), strict=True):
        close(actual, wanted)


EAGER = [*HUGGING_FACE, *((kind, "image") for kind in TIMM)]


@pytest.mark.parametrize(("kind", "side"), few(EAGER, EAGER[::3]))
def test_attentions_of_an_eager_model_equal_those_of_the_fused_kernel(kind: str, side: Any) -> None:
    fresh = tiny.fresh(kind)
    implementation(fresh.module, "eager")
    for part in fresh.module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    tower = fresh.tower(side)
    actual, wanted = (record_attentions(one.trace(make_inputs(one))) for one in (tower, tiny.model(kind).tower(side)))
    assert len(actual.all) == len(wanted.all)
    for one, other in zip(actual.all, wanted.all, strict=True):
        for name in ("weights", "value", "output"):
            close(getattr(one, name), getattr(other, name))
        for name in ("query", "key"):  # one of the two may be scaled before the product
            close(F.normalize(getattr(one, name), dim=-1), F.normalize(getattr(other, name), dim=-1))
        at = [one.weights, one.output]
        for mine, theirs in zip(
            gradients(actual.embedding, at), gradients(wanted.embedding, [other.weights, other.output]), strict=True
        ):
            close(mine, theirs)


@pytest.mark.parametrize("kind", few(TIMM, TIMM[:2]))
def test_attentions_equal_the_weights_of_timm(kind: str) -> None:
    fresh, weights = tiny.fresh(kind), []
    tower = fresh.image
    for block in tower.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, args, out: weights.append(out))
    tower.run(make_inputs(tower))
    seen = tiny.model(kind).image
    for actual, wanted in zip(record_attentions(seen.trace(make_inputs(seen))).blocks, weights, strict=True):
        close(actual.weights, wanted)


@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize(
    "kind",
    few(["own vit", "own vit average", "own text apart", "own text both ways", "coca"], ["own vit", "own text apart"]),
)
def test_attentions_equal_the_weights_of_torch(kind: str, side: Any) -> None:
    """``nn.MultiheadAttention`` returns its weights on request."""
    fresh, weights = tiny.fresh(kind), []
    tower = fresh.tower(side)

    def resolve(module: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        text = {**kwargs, "need_weights": True, "average_attn_weights": False}
        weights.append(module.forward(*args, **text)[1])

    for block in tower.blocks:
        block.attn.register_forward_hook(resolve, with_kwargs=True)
    tower.run(make_inputs(tower))
    seen = tiny.model(kind).tower(side)
    for actual, wanted in zip(record_attentions(seen.trace(make_inputs(seen))).blocks, weights, strict=True):
        close(actual.weights, wanted)


@pytest.mark.parametrize("kind", ["siglip", "siglip naflex"])
def test_attentions_include_the_pooling_of_siglip(kind: str) -> None:
    tower = tiny.model(kind).image
    trace = tower.trace(make_inputs(tower))
    pooling, module = record_attentions(trace, tower.depth - 1).pooling, tower.vision.head.attention
    assert pooling is not None
    weights = []

    def resolve(part: nn.Module, args: tuple, kwargs: dict, out: Any) -> None:
        weights.append(part.forward(*args, **{**kwargs, "average_attn_weights": False})[1])

    handle = module.register_forward_hook(resolve, with_kwargs=True)
    try:
        tower.run(trace.inputs)
    finally:
        handle.remove()
    close(pooling.weights, weights[0])


@pytest.mark.parametrize(("kind", "side"), few(SEEN, [case for case in SEEN if case[0] in COVER]))
def test_attentions_are_consistent(kind: str, side: Any) -> None:
    tower = tiny.model(kind).tower(side)
    trace = tower.trace(make_inputs(tower))
    seen = record_attentions(trace)
    close(seen.embedding, trace.embedding)
    assert len(seen.blocks) == len(seen.streams) == tower.depth
    for layer, stream in enumerate(seen.streams, 1):
        close(stream / stream.abs().max(), trace.cut(layer).hidden / stream.abs().max())
    for one in seen.all:
        torch.testing.assert_close(one.weights.sum(-1), torch.ones(one.weights.shape[:-1]))
        on_weights, on_output = gradients(seen.embedding, [one.weights, one.output])
        torch.testing.assert_close(on_weights, on_output @ one.value.mT, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(seen.rows.sum(-1), torch.ones(2))


@pytest.mark.parametrize(("kind", "side"), few(SEEN, [case for case in SEEN if case[0] in COVER]))
def test_attentions_are_the_same_from_any_layer(kind: str, side: Any) -> None:
    tower = tiny.model(kind).tower(side)
    trace = tower.trace(make_inputs(tower))
    whole, part = record_attentions(trace), record_attentions(trace, tower.depth - 1)
    assert len(part.blocks) == 1
    assert torch.equal(whole.rows, part.rows)
    torch.testing.assert_close(part.last.weights, whole.last.weights, atol=1e-5, rtol=1e-4)
    actual, wanted = (gradients(one.embedding, [one.last.weights])[0] for one in (part, whole))
    torch.testing.assert_close(actual, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-4)


def _class(inputs: Inputs, count: int) -> Tensor:
    return torch.eye(count)[[0, 0]]


def _end(inputs: Inputs, count: int) -> Tensor:
    """The first end token has the highest id of OpenCLIP."""
    return torch.eye(count)[inputs.values.argmax(1)]


def _last(inputs: Inputs, count: int) -> Tensor:
    return torch.eye(count)[[-1, -1]]


def _cells(inputs: Inputs, count: int) -> Tensor:
    """All rows but those before the 16 cells of the grid."""
    return F.pad(torch.full((2, 16), 1 / 16), (count - 16, 0))


def _own(inputs: Inputs, count: int) -> Tensor:
    own = (inputs.values != 0).float()
    return own / own.sum(1, keepdim=True)


ROWS = {
    ("clip", "image"): _class,
    ("siglip", "image"): _class,
    ("siglip naflex", "image"): _class,
    ("own vit", "image"): _class,
    ("own vit average", "image"): _cells,
    ("own vit average late norm", "image"): _cells,
    ("own vit attention", "image"): _class,
    ("coca", "image"): _class,
    ("timm vit", "image"): _class,
    ("timm vit average", "image"): _cells,
    ("timm siglip", "image"): _class,
    ("timm perception", "image"): _class,
    ("clip legacy end", "text"): _end,
    ("siglip", "text"): _last,
    ("own vit", "text"): _end,
    ("coca", "text"): _last,
    ("own text both ways", "text"): _class,
    ("bert", "text"): _class,
    ("bert with pooler", "text"): _class,
    ("roberta", "text"): _own,
    ("mt5", "text"): _own,
    ("m2m", "text"): _class,
}


POOLED = ("siglip", "siglip naflex", "own vit attention", "coca", "timm siglip", "timm perception")


@pytest.mark.parametrize(("kind", "side"), ROWS)
def test_attentions_know_the_rows_that_the_head_reads(kind: str, side: Any) -> None:
    tower = tiny.model(kind).tower(side)
    inputs = make_inputs(tower)
    seen = record_attentions(tower.trace(inputs), tower.depth - 1)
    assert (seen.pooling is not None) == (side == "image" and kind in POOLED)
    close(seen.rows, ROWS[kind, side](inputs, seen.last.weights.shape[2]))


def test_attentions_keep_rows_that_the_head_leaves_out() -> None:
    """timm pools by attention without the class token; maps have a row of zeros for it."""
    built = tiny.vit_trunk("vit_base_patch16_siglip_224", "map", proj=False, class_token=True)
    tower = load_model(built.module, tokenizer=built.tokenizer).image
    seen = record_attentions(tower.trace(make_inputs(tower)))
    assert seen.last.weights.shape[-1] == 16
    read = seen.read_by_head(seen.last.weights.mean(1))
    assert read.shape == (2, 17)
    assert not read[:, 0].any()
    assert seen.propagate([one.weights.mean(1) for one in seen.all])[:, 0].all(), "but it passes on what it attended to"


@pytest.mark.parametrize("kind", ["clip", "own vit", "siglip"])
def test_attentions_respect_masks(kind: str) -> None:
    tower = tiny.model(kind).text
    inputs = make_inputs(tower)
    for one in record_attentions(tower.trace(inputs)).blocks:
        later = torch.ones(one.weights.shape[-2:], dtype=torch.bool).triu(1)
        assert kind == "siglip" or not one.weights[..., later].any(), "causal"
        padding = ~inputs.extra["attention_mask"].bool() if kind == "clip" else torch.zeros_like(inputs.values).bool()
        assert not one.weights.transpose(1, 3)[padding].any()
    assert kind != "clip" or padding.any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": "bool"},
        {"attn_mask": "float"},
        {"attn_mask": "per item"},
        {"enable_gqa": True},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_recorder_computes_the_attention_of_the_kernel(options: dict[str, Any], dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    few = 2 if "enable_gqa" in options else 4
    query, key, value = (torch.randn(2, heads, 5, 8, generator=draw).to(dtype) for heads in (4, few, few))
    keep = torch.rand(2, 1, 5, 5, generator=draw) < 0.7
    keep = keep | torch.eye(5, dtype=torch.bool)
    masks = {
        "bool": keep,
        "float": torch.randn(5, 5, generator=draw).to(dtype),
        "per item": torch.where(keep, 0.0, -torch.inf).to(dtype),
    }
    if "attn_mask" in options:
        options = {"attn_mask": masks[options["attn_mask"]]}
    wanted = F.scaled_dot_product_attention(query, key, value, **options)
    with AttentionRecorder() as watch:
        actual = F.scaled_dot_product_attention(query, key, value, **options)
    rounding = {"atol": 2e-2, "rtol": 2e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(actual, wanted, **rounding)
    (one,) = watch.take_records()
    torch.testing.assert_close(one.weights.float().sum(-1), torch.ones(2, 4, 5), atol=1e-2, rtol=0)
    assert not watch.take_records()


@pytest.mark.parametrize(
    ("kind", "side"),
    [
        ("clip", "image"),
        ("siglip", "text"),
        ("own vit", "text"),
        ("mt5", "text"),
        ("own vit attention", "image"),
        ("timm eva", "image"),
    ],
)
def test_attentions_leave_the_model_unchanged_after_an_error(kind: str, side: Any) -> None:
    model = tiny.fresh(kind)
    tower = model.tower(side)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    trace, state = tower.trace(make_inputs(tower)), module_state(model.module)
    kernel, attention = F.scaled_dot_product_attention, F.multi_head_attention_forward
    record_attentions(trace)
    assert module_state(model.module) == state

    def explode(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    bomb = tower.blocks[-1].register_forward_hook(explode)
    with pytest.raises(RuntimeError, match="on purpose"):
        record_attentions(trace)
    bomb.remove()
    assert module_state(model.module) == state
    assert not modes()
    assert torch.is_grad_enabled()
    assert (kernel, attention) == (F.scaled_dot_product_attention, F.multi_head_attention_forward)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.module.parameters())
    assert tower.lock.acquire(blocking=False)
    tower.lock.release()


def test_attentions_work_without_gradients_and_with_frozen_weights() -> None:
    model = tiny.fresh("clip")
    model.module.requires_grad_(False)
    with torch.no_grad():
        seen = record_attentions(model.image.trace(make_inputs(model.image)))
    close(
        gradients(seen.embedding, [seen.last.weights])[0],
        gradients(
            (again := record_attentions(tiny.model("clip").image.trace(make_inputs(model.image)))).embedding,
            [again.last.weights],
        )[0],
    )


@pytest.mark.parametrize("kind", few(["clip", "own vit", "mt5"], ["mt5"]))
def test_attentions_of_several_threads_are_independent(kind: str) -> None:
    """Four threads record attention while a fifth runs the model: each records what it would record alone."""
    tower = tiny.model(kind).text
    traces = [tower.trace(tower.prepare(list(tiny.CAPTIONS[:count]))) for count in (1, 2, 3, 4)]
    alone = [record_attentions(trace) for trace in traces]
    barrier, done = threading.Barrier(5), threading.Event()

    def look(turn: int) -> list[AttentionRecord]:
        barrier.wait()
        actual = [record_attentions(traces[turn]) for _ in range(5)]
        assert all(len(seen.blocks) == tower.depth for seen in actual)
        return list(actual[-1].blocks)

    def run() -> int:
        barrier.wait()
        while not done.is_set():
            tower.run(traces[3].inputs)
        return len(modes())

    with ThreadPoolExecutor(5) as pool:
        other, looks = pool.submit(run), [pool.submit(look, turn) for turn in range(4)]
        together = [one.result() for one in looks]
        done.set()
        assert other.result() == 0
    for actual, wanted in zip(together, alone, strict=True):
        for one, two in zip(actual, wanted.blocks, strict=True):
            close(one.weights, two.weights)


@pytest.mark.parametrize("kind", ["clip", "own vit attention", "coca", "mt5"])
def test_attentions_work_in_half_precision(kind: str) -> None:
    built = tiny.KINDS[kind]()
    model = load_model(built.module.to(torch.bfloat16), processor=built.processor, tokenizer=built.tokenizer)
    for tower in (model.image, model.text):
        seen = record_attentions(tower.trace(make_inputs(tower)))
        (gradient,) = gradients(seen.embedding, [seen.last.weights])
        assert gradient.dtype == torch.float32
        assert gradient.isfinite().all()
        plain = tiny.model(kind).tower(tower.modality)
        rows = record_attentions(plain.trace(make_inputs(plain)), tower.depth - 1).rows
        assert torch.equal(seen.rows > 0, rows > 0)


def test_attentions_reject_an_unknown_kernel() -> None:
    """An unknown kernel gives an error with a remedy, not a wrong map."""

    def odd(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        weights = torch.einsum("bhqc,bhkc->bhqk", query, key).exp()
        return torch.einsum("bhqk,bhkc->bqhc", weights / weights.sum(-1, keepdim=True), value), None

    ALL_ATTENTION_FUNCTIONS.register("odd", odd)
    try:
        model = tiny.fresh("clip")
        implementation(model.module, "odd")
        trace = model.image.trace(make_inputs(model.image))
        with pytest.raises(Unsupported, match=r"block 0 of this tower has no attention that can be recorded.*'sdpa'"):
            record_attentions(trace)
    finally:
        del ALL_ATTENTION_FUNCTIONS._global_mapping["odd"]


def test_attentions_reject_a_head_with_several_attentions(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = tiny.model("siglip").image
    trace, head = tower.trace(make_inputs(tower)), tower.head
    monkeypatch.setattr(tower, "head", lambda *args: head(*args) + head(*args))
    with pytest.raises(Unsupported, match="the head has 2 attentions"):
        record_attentions(trace)


@pytest.mark.parametrize("layer", [-1, 3, 4])
def test_attentions_reject_layers_without_a_following_block(layer: int) -> None:
    tower = tiny.model("clip").image
    with pytest.raises(
        BadOption, match=rf"layer must be between 0 and 2, since a block must follow it \(got {layer}\)"
    ):
        record_attentions(tower.trace(make_inputs(tower)), layer)
