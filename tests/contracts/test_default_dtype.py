"""``torch.set_default_dtype`` changes no result of a method or a metric, and nibt creates no tensors with it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import nibt
from nibt.datasets.scenes import Scenes
from nibt.registry import available
from tests import tiny
from tests.helpers import METHODS, assert_same_bits, cheap_explanation, explain_cheaply
from tests.metrics.test_labels import labeled_pairs
from tests.suites import few

DTYPES = (torch.float64, torch.bfloat16)
WITHOUT_DTYPE = ("_request.py", "torch_modes.py")
"""Files with tensors of the default dtype: an empty one that tests a device, and those that their mode replaces."""


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class DefaultDtypeCalls(TorchFunctionMode):
    """Records the lines of nibt that create tensors of the default dtype float64 from what has no dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and out.dtype == torch.float64 and kwargs.get("dtype") is None:
            parts = [
                part for one in (*args, *kwargs.values()) for part in (one if isinstance(one, tuple | list) else [one])
            ]
            known = any(
                part is torch.float64
                or isinstance(part, np.ndarray | np.generic)
                or (isinstance(part, Tensor) and part.dtype == torch.float64)
                for part in parts
            )
            frame = sys._getframe(1)
            file = frame.f_code.co_filename.replace("\\", "/")
            if not known and func is not Tensor.double and "/nibt/" in file and not file.endswith(WITHOUT_DTYPE):
                self.lines.add(f"{file.rpartition('/nibt/')[2]}:{frame.f_lineno}")
        return out


LABELED = ("label_iou", "label_precision", "zero_shot_accuracy", "mean_iou")


def measured() -> list[Any]:
    """Return the values of all metrics, of maps and of regions."""
    model, pairs = tiny.model("clip"), list(Scenes(count=2))
    maps = nibt.measure(model, pairs, steps=2, views=1)
    regions = nibt.measure(model, pairs, method="occlusion", side="regions")
    labels = nibt.measure(model, labeled_pairs(2), LABELED, "maskclip", side="image")
    return [replace(row, seconds=0.0) for row in (*maps, *regions, *labels)]


@pytest.mark.parametrize("dtype", few(DTYPES, DTYPES[:1]))
@pytest.mark.parametrize("kind", few(["clip", "siglip"], ["clip"]))
@pytest.mark.parametrize("method", METHODS)
def test_methods_ignore_the_default_dtype(method: str, kind: str, dtype: torch.dtype) -> None:
    tiny.model(kind)
    expected = cheap_explanation(kind, method)
    assert expected is not None
    with default_dtype(dtype):
        actual = explain_cheaply(kind, method)
    assert_same_bits(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", few(DTYPES, DTYPES[:1]))
def test_metrics_ignore_the_default_dtype(dtype: torch.dtype) -> None:
    expected = measured()
    assert {row.metric for row in expected} == {*available("metrics")}
    with default_dtype(dtype):
        actual = measured()
    assert str(actual) == str(expected)


def test_no_tensor_has_the_default_dtype() -> None:
    tiny.model("clip")
    with default_dtype(torch.float64), DefaultDtypeCalls() as calls:
        for method in METHODS:
            explain_cheaply("clip", method)
        measured()
        images = [tiny.image(), tiny.image(seed=1)]
        nibt.decompose(tiny.model("clip"), images, "a cat")
        nibt.name_heads(tiny.model("clip"), images, ["a cat"])
        nibt.ablate_heads(tiny.model("clip"), images, "a cat", heads=[(0, 0)])
    assert not calls.lines


def test_calls_with_the_default_dtype_are_recorded() -> None:
    """The recorder sees a tensor that a function of nibt creates without a dtype."""
    source = "import torch\nresult = torch.arange(3) / 2"
    with default_dtype(torch.float64), DefaultDtypeCalls() as calls:
        exec(compile(source, "/src/nibt/example.py", "exec"), {})
    assert calls.lines == {"example.py:2"}
