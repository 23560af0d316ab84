"""Tests of ``nibt.engine.batches``: batches that do not fit into memory are halved, and a warning says so."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import nibt
from nibt.engine.batches import BatchCache, clock, explain_batches
from nibt.engine.encode import encode, free_memory, is_out_of_memory, within_memory
from nibt.engine.spec import Request, resolve
from nibt.errors import Unsupported
from nibt.models.base import Model
from nibt.registry import MethodSpec
from tests import tiny
from tests.helpers import assert_close, noise_pairs

PAIRS = noise_pairs(8)
IMAGES, CAPTIONS = [pair.image for pair in PAIRS], [pair.caption for pair in PAIRS]
MESSAGES = (
    "MPS backend out of memory (MPS allocated: 9.05 GB)",
    "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
)


def small_model(most: int, sizes: list[int], error: type[Exception] = torch.OutOfMemoryError) -> Model:
    """Return a model whose image tower has memory for ``most`` images at a time."""
    model = tiny.fresh("clip")

    def refuse(_: nn.Module, args: tuple[Any, ...]) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > most:
            raise error("CUDA out of memory. Tried to allocate 2.00 GiB")

    model.module.vision_model.embeddings.patch_embedding.register_forward_pre_hook(refuse)
    return model


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "nibt"]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING, "nibt"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_explain_halves_the_batch(error: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []
    model = small_model(3, sizes, error)
    sizes.clear()
    actual = nibt.explain(model, IMAGES, CAPTIONS, batch_size=8, steps=2, views=1)
    assert max(sizes) == 8, "the whole batch was tried"
    assert [message.partition(":")[0] for message in warnings_of(caplog)] == [
        "memory ran out for a batch of 8",
        "memory ran out for a batch of 4",
    ]
    assert "batches of 2; set batch_size to at most 2" in warnings_of(caplog)[1]
    expected = nibt.explain(tiny.model("clip"), IMAGES, CAPTIONS, batch_size=8, steps=2, views=1)
    for one, other in zip(actual, expected, strict=True):
        assert one.caption == other.caption
        assert_close(one.image.scores, other.image.scores)
        count = min(len(one.text.scores), len(other.text.scores))  # captions are padded to the longest of their batch
        assert_close(one.text.scores[:count], other.text.scores[:count])


@pytest.mark.slow
def test_later_batches_have_the_smaller_size(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []
    model = small_model(2, sizes)
    sizes.clear()
    nibt.explain(model, IMAGES, CAPTIONS, "grad_cam", batch_size=4)
    # those of 1 are blank images; first, the hook is a change after loading, and the model is checked with two images
    assert [size for size in sizes if size > 1] == [2, 4, 2, 2, 2, 2]
    assert len(warnings_of(caplog)) == 1


def test_a_pair_that_does_not_fit_alone_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    model, calls, most = tiny.fresh("clip"), [], [100]

    def refuse(*_: Any) -> None:
        calls.append(None)
        if len(calls) > most[0]:
            raise torch.OutOfMemoryError("out of memory")

    model.module.vision_model.encoder.layers[0].register_forward_pre_hook(refuse)
    nibt.load_model(model)  # which is checked with its hook
    most[0] = len(calls) + 1  # the first is a blank image, by which nibt learns what the head reads
    with pytest.raises(Unsupported, match="one pair does not fit into memory even alone: choose fewer steps"):
        nibt.explain(model, IMAGES[:2], CAPTIONS[:2], "occlusion")
    assert len(warnings_of(caplog)) == 1


def test_other_errors_are_raised_at_once(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fail(part: Any) -> None:
        calls.append(len(part))
        raise RuntimeError("sizes differ")

    with pytest.raises(RuntimeError, match="sizes differ"):
        list(within_memory([range(4)], fail))
    assert calls == [4]
    assert not warnings_of(caplog)


@pytest.mark.slow
def test_calibration_halves_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    model = small_model(3, [])

    def refuse(_: nn.Module, args: tuple[Any, ...]) -> None:
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("out of memory")

    model.module.text_model.embeddings.token_embedding.register_forward_pre_hook(refuse)
    captions = ["a red cat", "a gray dog"] * 4  # of one length, since padding depends on the batch
    actual = nibt.calibrate(model, IMAGES, captions, batch_size=8).tensors
    assert len(warnings_of(caplog)) == 4, "8 and 4 images, and as many captions"
    expected = nibt.calibrate(tiny.model("clip"), IMAGES, captions, batch_size=8).tensors
    assert actual.keys() == expected.keys()
    for name, states in expected.items():
        assert_close(actual[name], states)


@pytest.mark.slow
def test_encoding_halves_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    model = small_model(3, [])
    assert_close(encode(model.image, IMAGES), encode(tiny.model("clip").image, IMAGES))
    assert len(warnings_of(caplog)) == 2


@pytest.mark.slow
def test_parts_are_in_order() -> None:
    def work(part: Any) -> list[int]:
        if len(part) > 2:
            raise MemoryError
        return [10 * item for item in part]

    parts = list(within_memory([[0, 1, 2, 3, 4], [5, 6, 7]], work))
    assert [list(part) for part, _ in parts] == [[0, 1], [2, 3], [4], [5, 6], [7]]
    assert [value for _, values in parts for value in values] == [0, 10, 20, 30, 40, 50, 60, 70]


@pytest.mark.slow
def test_a_cache_drops_what_did_not_fit() -> None:
    """The trace of the whole batch would keep the memory that its halves need."""
    model = tiny.fresh("clip")
    spec, cache = (
        resolve(model, Request(MethodSpec("nib", "fast", {"views": 1, "distribute": False, "steps": 1}))),
        BatchCache(model),
    )
    own, sizes = model.image.last, []

    def last(stream: torch.Tensor, *others: Any) -> Any:
        sizes.append(len(stream))
        if len(stream) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return own(stream, *others)

    model.image.last = last  # pyright: ignore
    batches = list(explain_batches(spec, PAIRS[:4], 4, cache=cache))
    assert [list(batch.indices) for batch in batches] == [[0, 1], [2, 3]]
    whole = tuple(map(id, PAIRS[:4]))
    assert not any(key[0] == whole for key in cache._values)
    assert any(key[0] == whole[:2] for key in cache._values)


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_devices_are_known(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))


@pytest.mark.slow
def test_freeing_and_waiting_work_without_an_accelerator() -> None:
    free_memory()
    assert clock([torch.device("cpu")]) <= clock([torch.device("cpu")])
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
