"""Tests of weights in float16 and bfloat16, and of OpenCLIP's ``precision`` with several dtypes in one model.

A tower computes in float32 with the weights as they are. So every result is that of the same model whose weights were
rounded to half precision and are held in float32.
"""

import copy
from functools import cache
from typing import Any

import open_clip
import pytest
import torch
from open_clip.factory import _set_model_device_and_precision
from open_clip.transformer import LayerNorm, LayerNormFp32
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import nibt
from nibt.engine.explain import explain
from nibt.models import _precision
from nibt.models._loading import load_model
from nibt.models._precision import computing_dtype, float32_arithmetic
from nibt.models.base import Model
from tests import tiny
from tests.helpers import CHEAP, METHODS, assert_close, make_inputs
from tests.shared_models import module_state
from tests.suites import few

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "pure_fp16": torch.float16, "pure_bf16": torch.bfloat16}
MIXED = ("own vit", "own vit average", "own resnet", "own text apart", "timm vit", "convnext")
UNABLE = ("own vit attention", "coca", "bert", "mt5")
"""Kinds whose own forward pass OpenCLIP cannot run in mixed precision."""
both_dtypes = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def mixed(kind: str, precision: str) -> Any:
    """Return a module as ``open_clip.create_model(..., precision=...)`` builds it."""
    actual = tiny.KINDS[kind]().module
    if not precision.startswith("pure"):
        for part in actual.modules():
            if type(part) is LayerNorm:
                part.__class__ = LayerNormFp32
    trunk = hasattr(actual.visual, "trunk")
    _set_model_device_and_precision(actual, torch.device("cpu"), precision, trunk)
    return actual


def loaded(kind: str, module: Any) -> Model:
    built = tiny.ALL[kind]()
    return load_model(module, processor=built.processor, tokenizer=built.tokenizer)


def converted(module: Any, dtype: torch.dtype) -> Any:
    """Return a copy of a module, or of a pair, whose weights have a dtype."""
    return (
        tuple(converted(one, dtype) for one in module) if isinstance(module, tuple) else copy.deepcopy(module).to(dtype)
    )


def with_copy(kind: str, module: Any) -> tuple[Model, Model]:
    """Return the model of a module in half precision, and that of a copy with the same weights in float32."""
    return loaded(kind, module), loaded(kind, converted(module, torch.float32))


@cache
def pure(kind: str, dtype: torch.dtype) -> tuple[Model, Model]:
    """Return a model whose weights are all in half precision, and one with the same weights in float32."""
    half, single = with_copy(kind, converted(tiny.ALL[kind]().module, dtype))
    assert half.image.example.dtype == half.text.example.dtype == dtype
    assert single.image.example.dtype == torch.float32
    return half, single


def check_maps(models: tuple[Model, Model], method: str) -> None:
    """Check that both models give the same maps of both sides."""
    actual, expected = (explain(one, tiny.image(), tiny.CAPTIONS[0], method, **CHEAP.get(method, {})) for one in models)
    for side in ("image", "text"):
        one, other = getattr(actual, side), getattr(expected, side)
        assert one.scores.dtype == torch.float32
        assert_close(one.scores, other.scores, 1e-4)
        if other.path is not None:
            assert_close(one.path.gap, other.path.gap, 1e-4, least=1e-5)


@pytest.mark.parametrize("precision", few(DTYPES, ["fp16"]))
@pytest.mark.parametrize("kind", few(MIXED, ["own vit"]))
def test_mixed_precision_model_loads_and_reports_its_dtype(kind: str, precision: str) -> None:
    model, single = with_copy(kind, mixed(kind, precision))
    assert model.image.example.dtype == model.text.example.dtype == DTYPES[precision]
    assert model.dtype == str(DTYPES[precision]).removeprefix("torch.")
    inputs = make_inputs(model.image)
    assert inputs.values.dtype == torch.float32
    assert_close(model.image.encode(inputs), single.module.encode_image(inputs.values, normalize=False).detach())


@pytest.mark.slow
@pytest.mark.parametrize("precision", few(["fp16", "bf16"], ["fp16"]))
@pytest.mark.parametrize("kind", few(UNABLE, UNABLE[:1]))
def test_mixed_precision_that_open_clip_cannot_run_is_explained(kind: str, precision: str) -> None:
    module = mixed(kind, precision)
    image, ids = torch.zeros(1, 3, 32, 32, dtype=DTYPES[precision]), torch.ones(1, tiny.CONTEXT, dtype=torch.long)
    with pytest.raises(RuntimeError, match="dtype"):
        module(image, ids)
    check_maps(with_copy(kind, module), "nib")


def test_mixed_precision_equals_create_model() -> None:
    """Tiny models are converted as OpenCLIP converts its own: the same parts have each dtype."""
    config = tiny.configuration()
    built = open_clip.CLIP(**config, cast_dtype=torch.bfloat16)
    _set_model_device_and_precision(built, torch.device("cpu"), "bf16", False)
    own = {name: weight.dtype for name, weight in built.named_parameters()}
    assert own == {name: weight.dtype for name, weight in mixed("own vit", "bf16").named_parameters()}
    assert len(set(own.values())) == 2
    assert {type(part) for part in built.modules()} == {type(part) for part in mixed("own vit", "bf16").modules()}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    few([("clip", torch.float16), ("own vit", torch.bfloat16)], [("clip", torch.float16)]),
)
@pytest.mark.parametrize("method", few(METHODS, ["nib", "rise"]))
def test_methods_compute_in_float32(method: str, kind: str, dtype: torch.dtype) -> None:
    check_maps(pure(kind, dtype), method)


@pytest.mark.parametrize("kind", few(tiny.ALL, ["clip"]))
def test_all_kinds_compute_in_float32(kind: str) -> None:
    check_maps(pure(kind, torch.bfloat16), "nib")


@pytest.mark.slow
@pytest.mark.parametrize("precision", few(["fp16", "bf16"], ["bf16"]))
@pytest.mark.parametrize("kind", few(["own vit", "timm vit"], ["own vit"]))
@pytest.mark.parametrize("method", few(["nib", "gae", "integrated_gradients", "clip_surgery"], ["nib"]))
def test_methods_compute_in_float32_in_mixed_precision(kind: str, precision: str, method: str) -> None:
    check_maps(with_copy(kind, mixed(kind, precision)), method)


@both_dtypes
@pytest.mark.parametrize("kind", few(["clip", "own vit"], ["clip"]))
def test_tables_compute_in_float32(kind: str, dtype: torch.dtype) -> None:
    """Tables take second derivatives, along many directions at once."""
    actual, expected = (nibt.regions(model, tiny.image(), tiny.CAPTIONS[0], steps=2) for model in pure(kind, dtype))
    assert_close(actual.table, expected.table, 1e-4)


def test_models_with_weights_of_two_types_are_checked() -> None:
    """Of such a model, Transformers cannot compute the embedding, which nibt computes in float32."""
    module = converted(tiny.ALL["clip"]().module, torch.float16)
    for projection in (module.visual_projection, module.text_projection):
        projection.float()
    checks = nibt.check(loaded("clip", module), tiny.image(), tiny.CAPTIONS[0]).checks
    expected = nibt.check(loaded("clip", converted(module, torch.float32)), tiny.image(), tiny.CAPTIONS[0]).checks
    assert [check.value for check in checks] == pytest.approx([check.value for check in expected], abs=1e-3)


@both_dtypes
def test_half_precision_is_near_float32(dtype: torch.dtype) -> None:
    """What is left is the rounding of the weights: half a unit in the last of 11 or 8 bits."""
    half, _ = pure("clip", dtype)
    actual, expected = (explain(one, tiny.image(), tiny.CAPTIONS[0]) for one in (half, tiny.model("clip")))
    for side in ("image", "text"):
        one, other = getattr(actual, side).scores, getattr(expected, side).scores
        assert_close(one, other, 0.02 if dtype == torch.float16 else 0.16)
        assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", few(["clip", "own vit", "convnext", "bert"], ["own vit"]))
def test_the_model_and_the_modes_of_torch_are_unchanged(kind: str) -> None:
    half, _ = pure(kind, torch.bfloat16)
    before, weights = module_state(half.module), half.weights_hash
    for method in ("nib", "rise"):
        explain(half, tiny.image(), tiny.CAPTIONS[0], method, **CHEAP.get(method, {}))
    assert module_state(half.module) == before
    assert half.weights_hash == weights
    assert not _get_current_dispatch_mode_stack()
    assert (torch.ones(2, dtype=torch.bfloat16) @ torch.ones(2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_modes_end_after_an_error() -> None:
    with pytest.raises(ValueError, match="inside"), float32_arithmetic(torch.float16):
        raise ValueError("inside")
    assert not _get_current_dispatch_mode_stack()


@both_dtypes
def test_autocast_changes_no_bit(dtype: torch.dtype) -> None:
    half, _ = pure("clip", dtype)
    expected = explain(half, tiny.image(), tiny.CAPTIONS[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = explain(half, tiny.image(), tiny.CAPTIONS[0])
        assert torch.is_autocast_enabled("cpu")
    for side in ("image", "text"):
        assert torch.equal(getattr(actual, side).scores, getattr(expected, side).scores)


def test_graphs_keep_weights_in_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph with copies in float32 would take more memory than a model in float32."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    monkeypatch.setattr(_precision, "_unchanged", keep)
    half, _ = pure("clip", torch.bfloat16)
    weights = {weight.data_ptr(): weight for weight in half.module.parameters() if weight.ndim == 2}
    cut = half.image.trace(make_inputs(half.image)).cut(0)
    kept.clear()
    cut.rest(cut.hidden[None].requires_grad_())
    of_weights = [tensor for tensor in kept if tensor.data_ptr() in weights]
    assert len(of_weights) > 6 * (half.image.depth - 1)
    assert {tensor.dtype for tensor in of_weights} == {torch.bfloat16}
    shapes = {tuple(weight.shape) for weight in weights.values()}
    assert not any(tensor.dtype == torch.float32 and tuple(tensor.shape) in shapes for tensor in kept)


class TestArithmetic:
    """Of single operations."""

    def test_float32_and_float64_are_left_alone(self) -> None:
        for dtype in (torch.float32, torch.float64):
            assert computing_dtype(dtype) == dtype
            with float32_arithmetic(dtype):
                assert not _get_current_dispatch_mode_stack()

    @both_dtypes
    def test_products_equal_those_of_converted_weights(self, dtype: torch.dtype) -> None:
        draw = torch.Generator().manual_seed(0)
        weight, bias, states = (torch.randn(*size, generator=draw) for size in ((6, 4), (6,), (3, 4)))
        half_weight, half_bias = weight.to(dtype).requires_grad_(), bias.to(dtype).requires_grad_()
        moving = states.clone().requires_grad_()
        with float32_arithmetic(dtype):
            actual = torch.nn.functional.linear(moving, half_weight, half_bias)
        expected = states @ half_weight.detach().float().T + half_bias.detach().float()
        torch.testing.assert_close(actual.detach(), expected)
        gradient, of_weight = torch.autograd.grad(actual.square().sum(), (moving, half_weight))
        torch.testing.assert_close(gradient, 2 * expected @ half_weight.detach().float())
        assert of_weight.dtype == dtype, "as the weight"
        torch.testing.assert_close(of_weight, (2 * expected.T @ states).to(dtype))

    @both_dtypes
    def test_states_are_not_converted_to_the_dtype_of_weights(self, dtype: torch.dtype) -> None:
        weight, states = torch.ones(2, dtype=dtype), torch.tensor([1 + 2**-20, 1e5], dtype=torch.float32)
        with float32_arithmetic(dtype):
            converted = [states.to(weight), states.to(dtype), states.type_as(weight), states.to(weight.dtype)]
            created = [torch.zeros(2, dtype=dtype), weight.new_ones(2), torch.zeros_like(weight), weight + weight]
        assert all(torch.equal(one, states) for one in converted)
        assert {one.dtype for one in created} == {torch.float32}

    @both_dtypes
    def test_convolutions_and_attention_take_weights_in_precision(self, dtype: torch.dtype) -> None:
        """Torch compares the dtypes of their arguments before it calls a mode of operations."""
        draw = torch.Generator().manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 2).to(dtype)
        pixels, tokens = torch.randn(1, 3, 5, 5, generator=draw), torch.randn(1, 2, 5, 4, generator=draw)
        query = torch.randn(1, 2, 1, 4, generator=draw).to(dtype)
        with float32_arithmetic(dtype), torch.no_grad():
            convolved = layer(pixels)
            attended = torch.nn.functional.scaled_dot_product_attention(query, tokens, value=tokens)
        torch.testing.assert_close(convolved, copy.deepcopy(layer).float()(pixels).detach())
        weights = (query.float() @ tokens.mT / 2).softmax(-1)
        torch.testing.assert_close(attended, weights @ tokens)
