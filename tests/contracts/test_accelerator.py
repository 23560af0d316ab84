"""What must hold on an accelerator. Run it there by: python -m pytest -n 0 -m gpu.

Without an accelerator, the tests marked ``gpu`` are deselected, and the others run on the CPU. The expected maps are
those of a model in float64 on the CPU.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import torch

import nibt
from nibt.models.base import Model
from nibt.results.explanation import Explanation
from tests import tiny
from tests.helpers import CHEAP, METHODS, assert_close, cheap_explanation, noise_pairs
from tests.suites import few

gpu = pytest.mark.gpu
ACCELERATOR = str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cuda"
"""The device of the tests marked ``gpu``."""


on_devices = pytest.mark.parametrize("device", ["cpu", pytest.param(ACCELERATOR, marks=gpu)])
KINDS = ("clip", "siglip", "own vit", "convnext")
ROUNDING = 1e-3
"""Of float32 and of another order of sums, relative to the largest score."""
PAIRS = noise_pairs(8)
IMAGES, CAPTIONS = [pair.image for pair in PAIRS], [pair.caption for pair in PAIRS]


@cache
def model_on(kind: str, device: str, dtype: torch.dtype = torch.float32) -> Model:
    """Return the tiny model of a kind on a device; tests must not change it."""
    model = tiny.fresh(kind)
    model.module.to(device, dtype)
    return model


def explained(model: Model, method: str = "nib", count: int = 3, **options: object) -> list[Explanation]:
    return nibt.explain(model, IMAGES[:count], CAPTIONS[:count], method, **{**CHEAP.get(method, {}), **options})


def check_same(actual: list[Explanation], expected: list[Explanation], share: float = ROUNDING) -> None:
    for one, other in zip(actual, expected, strict=True):
        for side in ("image", "text"):
            mine, theirs = getattr(one, side).scores, getattr(other, side).scores
            assert mine.device.type == "cpu"
            count = min(len(mine), len(theirs))  # captions are padded to the longest of their batch
            assert_close(mine[:count], theirs[:count], share, least=1e-7)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@on_devices
@pytest.mark.parametrize("kind", few(KINDS, ["clip"]))
@pytest.mark.parametrize("method", few(METHODS, ["nib", "gae", "grad_cam", "occlusion"]))
def test_maps_are_those_of_float64_on_the_cpu(method: str, kind: str, device: str) -> None:
    if cheap_explanation(kind, method) is None:
        with pytest.raises(nibt.NibtError, match="needs attention"):
            explained(model_on(kind, device), method)
        return
    actual, exact = explained(model_on(kind, device), method), explained(model_on(kind, "cpu", torch.float64), method)
    check_same(actual, exact, 1e-2 if method == "clip_surgery" else ROUNDING)  # its softmax is sharp
    assert actual[0].model["device"].startswith(device)


@on_devices
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_with_rounded_weights(dtype: torch.dtype, device: str) -> None:
    half = model_on("clip", device, dtype)
    rounded = tiny.fresh("clip")
    rounded.module.to(dtype).double()
    check_same(explained(half), explained(rounded))


@on_devices
def test_maps_do_not_depend_on_the_batch(device: str) -> None:
    model = model_on("clip", device)
    together = explained(model, count=8, batch_size=8)
    alone = explained(model, count=8, batch_size=1)
    check_same(together, alone, 1e-5 if device == "cpu" else 1e-4)


@on_devices
@pytest.mark.parametrize("method", ["random", "rise", "banzhaf", "m2ib"])
def test_seeds_draw_the_same_on_every_device(method: str, device: str) -> None:
    check_same(
        explained(model_on("clip", device), method, seed=3),
        explained(model_on("clip", "cpu", torch.float64), method, seed=3),
    )


@on_devices
@pytest.mark.usefixtures("deterministic")
def test_deterministic_algorithms_give_the_same_bits(device: str) -> None:
    model = model_on("clip", device)
    for method in ("nib", "gae", "grad_cam"):
        check_same(explained(model, method), explained(model, method), 0.0)


@on_devices
def test_calls_are_equal_up_to_rounding_without_determinism(device: str) -> None:
    model = model_on("clip", device)
    check_same(explained(model), explained(model), 0.0 if device == "cpu" else 1e-5)


@on_devices
def test_threads_share_a_model(device: str) -> None:
    model = model_on("clip", device)
    alone = {method: explained(model, method) for method in ("nib", "rise", "gae", "occlusion")}
    with ThreadPoolExecutor(2) as pool:
        together = dict(zip(alone, pool.map(lambda method: explained(model, method), alone), strict=True))
    for method, expected in alone.items():
        check_same(together[method], expected, 1e-5)


@on_devices
def test_tables_and_metrics(device: str) -> None:
    model, exact = model_on("clip", device), model_on("clip", "cpu", torch.float64)
    one, other = (nibt.regions(each, IMAGES[0], CAPTIONS[0], steps=2) for each in (model, exact))
    assert_close(one.table, other.table, ROUNDING)
    first, second = (nibt.measure(each, PAIRS[:2], ["deletion", "infidelity"], steps=2) for each in (model, exact))
    for row, expected in zip(first, second, strict=True):
        assert row.value == pytest.approx(expected.value, abs=2e-3)


@on_devices
def test_job(device: str, clip_folder: Path, job_table: Path, tmp_path: Path) -> None:
    model = nibt.load_model(clip_folder, device=device)
    job = nibt.batch(model, job_table, tmp_path / "job", steps=2, batch_size=4)
    assert not job.manifest.errors
    exact = nibt.load_model(clip_folder)
    exact.module.double()
    expected = nibt.batch(exact, job_table, tmp_path / "exact", steps=2, batch_size=4)
    for row, other in zip(job.rows(), expected.rows(), strict=True):
        assert_close(torch.tensor(row["grid"]), torch.tensor(other["grid"]), ROUNDING)


@gpu
def test_ray_workers_share_the_accelerator(clip_folder: Path, job_table: Path, tmp_path: Path) -> None:
    """Two workers with half of an accelerator each."""
    pytest.importorskip("ray")
    options = {"steps": 2, "batch_size": 2, "chunk_size": 2}
    job = nibt.batch(
        clip_folder,
        job_table,
        tmp_path / "ray",
        device=ACCELERATOR,
        execution="ray",
        workers=2,
        gpus=0.5,
        **options,
    )
    assert not job.manifest.errors
    expected = nibt.batch(clip_folder, job_table, tmp_path / "cpu", **options)
    for row, other in zip(job.rows(), expected.rows(), strict=True):
        assert_close(torch.tensor(row["grid"]), torch.tensor(other["grid"]), ROUNDING)


@gpu
def test_batches_that_do_not_fit_are_halved(caplog: pytest.LogCaptureFixture) -> None:
    """A tensor takes all memory of the accelerator but a little. ``tests/engine/test_memory.py`` needs none."""
    accelerator = getattr(torch, torch.device(ACCELERATOR).type)
    model = model_on("timm vit", ACCELERATOR)
    explained(model, count=1)
    free, _ = accelerator.mem_get_info()
    taken = torch.empty(max(0, free - 100 * 2**20), dtype=torch.uint8, device=ACCELERATOR)
    with caplog.at_level(logging.WARNING, "nibt"):
        answers = nibt.explain(
            model, IMAGES * 64, CAPTIONS * 64, batch_size=512, memory_mb=100_000, steps=8, image_layer=0
        )
    del taken
    assert len(answers) == 512
    assert any("memory ran out for a batch of 512" in record.getMessage() for record in caplog.records)
