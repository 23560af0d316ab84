"""Tests of OpenCLIP's ``precision``: weights of several dtypes in one model."""

from typing import Any

import open_clip
import pytest
import torch
from open_clip.factory import _set_model_device_and_precision
from open_clip.transformer import LayerNorm, LayerNormFp32

from nibt.engine.explain import explain
from nibt.errors import CannotLoad
from nibt.models._loading import load_model
from nibt.models.base import Model
from tests import tiny
from tests.helpers import CHEAP, METHODS, cheap_explanation

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "pure_fp16": torch.float16, "pure_bf16": torch.bfloat16}


KINDS = ("own vit", "own vit average", "own resnet", "own text apart", "timm vit", "convnext")


UNABLE = ("own vit attention", "coca", "bert", "mt5")
"""Kinds whose forward pass OpenCLIP cannot run in mixed precision."""


def module(kind: str, precision: str) -> Any:
    """Return a model as ``open_clip.create_model(..., precision=...)`` builds it."""
    actual = tiny.KINDS[kind]().module
    if not precision.startswith("pure"):
        for part in actual.modules():
            if type(part) is LayerNorm:
                part.__class__ = LayerNormFp32
    trunk = hasattr(actual.visual, "trunk")
    _set_model_device_and_precision(actual, torch.device("cpu"), precision, trunk)
    return actual


def loaded(kind: str, precision: str) -> Model:
    return load_model(module(kind, precision), tokenizer=tiny.KINDS[kind]().tokenizer)


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_model_loads_and_reports_its_dtype(kind: str, precision: str) -> None:
    model = loaded(kind, precision)
    assert model.image.example.dtype == model.text.example.dtype == DTYPES[precision]
    assert model.dtype == str(DTYPES[precision]).removeprefix("torch.")
    inputs = model.image.prepare([tiny.image()])
    assert inputs.values.dtype == DTYPES[precision]
    with torch.no_grad():
        own = model.module.encode_image(inputs.values, normalize=False)
    assert torch.equal(model.image.encode(inputs), own)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", ["own vit", "timm vit"])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("random", "centre", "ones")])
def test_mixed_precision_maps_are_close_to_float32(kind: str, precision: str, method: str) -> None:
    """float16 has 10 fraction bits, bfloat16 has 7, and each of many operations rounds.

    The attention of values with values is sharp, so rounding decides where values are nearly alike.
    """
    actual = explain(loaded(kind, precision), tiny.image(), tiny.CAPTIONS[0], method, **CHEAP.get(method, {}))
    wanted = cheap_explanation(kind, method)
    for side in ("image", "text"):
        one, other = getattr(actual, side).scores, getattr(wanted, side).scores
        assert one.isfinite().all()
        assert one.dtype == torch.float32
        if other.any():
            cosine = torch.cosine_similarity(one, other, dim=0)
            least = {"fp16": 0.99 if method == "clip_surgery" else 0.999, "bf16": 0.95}[precision]
            assert cosine > least, f"{side}: {cosine}"


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", UNABLE)
def test_mixed_precision_that_open_clip_cannot_run_is_rejected(kind: str, precision: str) -> None:
    actual = module(kind, precision)
    image, ids = torch.zeros(1, 3, 32, 32, dtype=DTYPES[precision]), torch.ones(1, tiny.CONTEXT, dtype=torch.long)
    with pytest.raises(RuntimeError, match="dtype"):
        actual(image, ids)
    message = r"weights in torch\.\w+ and torch\.float32, and its own forward pass fails in the (image|text) tower"
    with pytest.raises(CannotLoad, match=message + r".*precision='fp32' or 'pure_bf16'"):
        load_model(actual, tokenizer=tiny.KINDS[kind]().tokenizer)


def test_mixed_precision_equals_create_model() -> None:
    """Tiny models are converted as OpenCLIP converts its own: the same parts have each dtype."""
    config = tiny.configuration()
    built = open_clip.CLIP(**config, cast_dtype=torch.bfloat16)
    _set_model_device_and_precision(built, torch.device("cpu"), "bf16", False)
    own = {name: weight.dtype for name, weight in built.named_parameters()}
    assert own == {name: weight.dtype for name, weight in module("own vit", "bf16").named_parameters()}
    assert len(set(own.values())) == 2
    assert {type(part) for part in built.modules()} == {type(part) for part in module("own vit", "bf16").modules()}
