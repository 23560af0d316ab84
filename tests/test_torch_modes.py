"""Tests of ``nibt.torch_modes``."""

import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

import nibt
from nibt.datasets.scenes import Scenes
from nibt.engine.explain import explain
from nibt.errors import CannotLoad
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.report.html.view import page
from nibt.results.explanation import Explanation
from nibt.torch_modes import float32_numbers, plain_torch, without_warnings
from tests import tiny
from tests.helpers import METHODS, assert_same_bits, cheap_explanation, explain_cheaply
from tests.suites import VARIED, few

Mode = Callable[[], AbstractContextManager[Any]]


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES: dict[str, Mode] = {
    "set_default_device cpu": lambda: default_device("cpu"),
    "set_default_device meta": lambda: default_device("meta"),
    "with torch.device cpu": lambda: torch.device("cpu"),
    "set_default_dtype float64": lambda: default_dtype(torch.float64),
    "set_default_dtype float16": lambda: default_dtype(torch.float16),
    "set_default_dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic algorithms": deterministic_algorithms,
}


FEW = ("clip", "siglip naflex", "own vit", "convnext")
"""Kinds that are tested under each mode separately: both libraries, the fused kernel, the attention of torch,
convolutions.
"""


LOADED_UNDER = ("set_default_device meta", "set_default_dtype float64", "inference_mode")


VARIED_METHODS = ("nib", "rise", "gae", "m2ib")
"""Methods that are tested under each mode separately: a path of gradients, random masks, attention, an optimizer."""


@contextmanager
def all_modes() -> Iterator[None]:
    """Every mode at once, each in its most harmful form."""
    harmful = (
        "set_default_device meta",
        "set_default_dtype float16",
        "inference_mode",
        "autocast",
        "deterministic algorithms",
    )
    with ExitStack() as stack:
        for name in harmful:
            stack.enter_context(MODES[name]())
        yield


def global_state() -> dict[str, Any]:
    """Return the state of torch and NumPy that callers share."""
    return {
        "modes": _get_current_function_mode_stack(),
        "default device": torch.get_default_device(),
        "default dtype": torch.get_default_dtype(),
        "inference": torch.is_inference_mode_enabled(),
        "gradients": torch.is_grad_enabled(),
        "autocast": [(torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)) for name in ("cpu", "cuda")],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "generators": (torch.get_rng_state().numpy().tobytes(), str(np.random.get_state())),
    }


def check(kind: str, methods: list[str], mode: Mode) -> None:
    tiny.model(kind)
    wanted = {method: cheap_explanation(kind, method) for method in methods}
    with mode():
        before = global_state()
        actual = {method: explain_cheaply(kind, method) for method in methods if wanted[method] is not None}
        assert global_state() == before
    assert {method for method in methods if wanted[method] is None} <= set(METHODS) - {"nib", "rise", "grad_cam"}
    for method, result in actual.items():
        assert_same_bits(result, wanted[method])


@pytest.mark.slow
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_methods_ignore_all_modes_at_once(kind: str) -> None:
    check(kind, list(METHODS), all_modes)


@pytest.mark.parametrize("mode", few(MODES, list(MODES)[:3]))
@pytest.mark.parametrize("kind", few(FEW, ["clip"]))
def test_methods_ignore_each_mode(kind: str, mode: str) -> None:
    check(kind, list(VARIED_METHODS), MODES[mode])


@pytest.mark.slow
@pytest.mark.parametrize("mode", few(MODES, list(MODES)[:3]))
@pytest.mark.parametrize("kind", VARIED)
def test_every_method_ignores_each_mode(kind: str, mode: str) -> None:
    """All kinds are tested with all modes at once."""
    check(kind, list(METHODS), MODES[mode])


PAIRS = [(tiny.image(seed=seed), caption) for seed, caption in enumerate(tiny.CAPTIONS)]


QUERY = torch.linspace(-1, 1, 24, dtype=torch.float32).view(2, 12)


def contributions(model: Model) -> list[Tensor]:
    table = nibt.contributions(model, tiny.image(), steps=2)
    return [table.vectors, table.explain("a cat").scores, table.explain(QUERY[0]).scores]


def regions(model: Model) -> list[Tensor]:
    table = nibt.regions(model, tiny.image(), "two red cars", steps=2)
    return [table.scores, table.for_words("red"), table.for_region((0, 0, 9, 9))]


def measured(model: Model) -> list[Any]:
    """Measure against the model and against the truth."""
    against_model = nibt.measure(
        model, list(Scenes(count=2)), ["deletion", "infidelity", "max_sensitivity", "confidence_drop"], steps=2
    )
    truth = ["pointing_game", "energy", "intersection_over_union", "average_precision", "own_object", "word_auc"]
    against_truth = nibt.measure(model, list(Scenes(count=2)), truth, "center")
    return [replace(row, seconds=0.0) for row in (*against_model, *against_truth)]


VERBS: dict[str, Callable[[Model], Any]] = {
    "explain pairs": lambda model: nibt.explain(
        model, [one for one, _ in PAIRS], [other for _, other in PAIRS], steps=2
    ),
    "explain views": lambda model: nibt.explain(model, *PAIRS[0], steps=2, views=2),
    "explain along the path": lambda model: nibt.explain(model, *PAIRS[0], "grad_cam", steps=2, along_path=True),
    "explain two images": lambda model: nibt.compare(model, tiny.image(), tiny.image(seed=1), steps=2),
    "explain softmax": lambda model: nibt.explain(model, *PAIRS[0], target="softmax", against=["a bird"], steps=2),
    "explain_ranking": lambda model: nibt.explain_ranking(model, tiny.image(), ["a cat", "a bird"], steps=2),
    "rank": lambda model: nibt.rank(model, tiny.image(), ["a cat", "a bird"]),
    "replace_words": lambda model: nibt.replace_words(model, tiny.image(), "a cat", ["bird"]),
    "regions": regions,
    "explain_embeddings": lambda model: [nibt.explain_embeddings(model, tiny.image(), QUERY, steps=2).scores],
    "contributions": contributions,
    "measure": measured,
    "calibrate": lambda model: dict(nibt.calibrate(model, [one for one, _ in PAIRS], tiny.CAPTIONS).tensors),
}


def plain(result: Any) -> Any:
    """Return a result in a form that is equal only if every bit is."""
    if isinstance(result, Tensor):
        return result.dtype, result.device.type, tuple(result.shape), result.detach().numpy().tobytes()
    if isinstance(result, dict):
        return {name: plain(value) for name, value in result.items()}
    if isinstance(result, list | tuple) and not hasattr(result, "_fields"):
        return [plain(value) for value in result]
    if hasattr(result, "to_json"):
        return str(result.to_json())
    return str(result)


@pytest.mark.parametrize("verb", few(VERBS, ["explain pairs", "explain_ranking", "regions", "calibrate"]))
def test_functions_ignore_all_modes(verb: str) -> None:
    model = tiny.model("clip")
    wanted = plain(VERBS[verb](model))
    with all_modes():
        before = global_state()
        actual = VERBS[verb](model)
        assert global_state() == before
    assert plain(actual) == wanted


def audit(model: Model) -> list[Any]:
    result = nibt.audit(model, list(Scenes(count=8)), "nib", quick=True)
    return [result.checks, result.scores]


def roar(model: Model) -> list[Any]:
    with TemporaryDirectory() as folder:
        result = nibt.roar(
            model, list(Scenes(count=12)), "nib", out=Path(folder) / "run", trainable=["features"], epochs=1
        )
    return [result.loss_increases]


def bench(_: Model) -> list[Any]:
    plan = {
        "models": [{"name": "scenes"}],
        "methods": ["nib", "gae", {"name": "rise", "options": {"masks": 8}}],
        "data": [{"name": "scenes", "options": {"count": 2}}],
        "metrics": ["pointing_game", "word_auc", "deletion", "infidelity"],
    }
    with TemporaryDirectory() as folder:
        rows = nibt.benchmark(plan, Path(folder) / "run").table().to_pylist()
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


LONG = {"audit": audit, "roar": roar, "bench": bench}


@pytest.mark.slow
@pytest.mark.parametrize("verb", LONG)
def test_long_functions_ignore_all_modes(verb: str) -> None:
    model = tiny.model("clip")
    wanted = plain(LONG[verb](model))
    with all_modes():
        before = global_state()
        actual = LONG[verb](model)
        assert global_state() == before
    assert plain(actual) == wanted


@pytest.mark.slow
def test_batch_ignores_all_modes(tmp_path: Path, clip_folder: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    lines = []
    for place, (image, caption) in enumerate(PAIRS):
        image.pil_image.save(tmp_path / f"{place}.png")
        lines.append(f"{tmp_path / f'{place}.png'},{caption}")
    pairs.write_text("\n".join(["image,caption", *lines, ""]))
    nibt.batch(clip_folder, pairs, tmp_path / "wanted", steps=2)
    with all_modes():
        before = global_state()
        nibt.batch(clip_folder, pairs, tmp_path / "actual", steps=2)
        assert global_state() == before
    files = [sorted(path.name for path in (tmp_path / name / "parts").iterdir()) for name in ("wanted", "actual")]
    assert files[0] == files[1], "their names contain hashes of their bytes"


def test_loading_results_ignores_all_modes(tmp_path: Path) -> None:
    wanted = explain_cheaply("clip", "nib")
    table = nibt.regions(tiny.model("clip"), tiny.image(), "two red cars", steps=2)
    wanted.save(tmp_path / "map.json")
    table.save(tmp_path / "table.json")
    with all_modes():
        assert Explanation.load(tmp_path / "map.json").to_json() == wanted.to_json()
        assert nibt.Regions.load(tmp_path / "table.json").to_json() == table.to_json()


def test_modes_are_restored_after_an_error() -> None:
    model = tiny.model("convnext")
    with all_modes():
        before = global_state()
        with pytest.raises(nibt.NibtError, match="attention"):
            explain(model, tiny.image(), "a cat", "gae")
        assert global_state() == before


class TestLoading:
    @pytest.mark.parametrize("kind", few(["clip", "siglip", "own vit", "timm vit", "bert", "resnet"], ["own vit"]))
    def test_model_in_memory_loads(self, kind: str) -> None:
        built = tiny.KINDS[kind]()
        with all_modes():
            before = global_state()
            model = load_model(built.module, processor=built.processor, tokenizer=built.tokenizer)
            assert global_state() == before
        assert model.weights_hash == tiny.model(kind).weights_hash
        assert_same_bits(explain(model, tiny.image(), tiny.CAPTIONS[0], steps=2), cheap_explanation(kind, "nib"))

    def test_folder_loads(self, clip_folder: Path) -> None:
        with all_modes():
            model = load_model(clip_folder)
        assert {weight.device.type for weight in model.module.parameters()} == {"cpu"}
        assert {weight.dtype for weight in model.module.parameters()} == {torch.float32}
        assert model.weights_hash == tiny.model("clip").weights_hash
        assert explain(model, tiny.image(), "a cat", "gae").image.scores.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_open_clip_rejects_a_half_precision_default_dtype(self, dtype: torch.dtype) -> None:
        with default_dtype(dtype), pytest.raises(CannotLoad, match=r"default dtype is .*set_default_dtype\(torch\.fl"):
            load_model("lite")

    @pytest.mark.parametrize("name", few(LOADED_UNDER, LOADED_UNDER[:1]))
    def test_open_clip_loads(self, name: str) -> None:
        with MODES[name]():
            model = load_model("lite")
        assert model.weights_hash == load_model("lite").weights_hash

    @pytest.mark.parametrize("kind", few(["clip", "own vit"], ["clip"]))
    def test_model_built_in_inference_mode_is_rejected(self, kind: str) -> None:
        with torch.inference_mode():
            built = tiny.KINDS[kind]()
        with pytest.raises(CannotLoad, match=r"inside torch\.inference_mode\(\).*copy\.deepcopy\(model\)"):
            load_model(built.module, processor=built.processor, tokenizer=built.tokenizer)
        model = load_model(copy.deepcopy(built.module), processor=built.processor, tokenizer=built.tokenizer)
        assert_same_bits(explain(model, tiny.image(), tiny.CAPTIONS[0], steps=2), cheap_explanation(kind, "nib"))

    def test_model_without_weights_is_rejected(self) -> None:
        built = tiny.KINDS["clip"]()
        with pytest.raises(CannotLoad, match="has no weights, since they are on the device 'meta'"):
            load_model(built.module.to("meta"), processor=built.processor)


class Passing(TorchFunctionMode):
    """A mode of the caller that changes nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class TestFloat32Numbers:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_float32_numbers_restores_the_default_behavior(self, dtype: torch.dtype) -> None:
        whole = torch.arange(256, dtype=torch.uint8)
        calls: list[Callable[[], Tensor]] = [
            lambda: torch.tensor([0.1, 0.2]) * (1 / 255),
            lambda: torch.tensor(0.1),
            lambda: torch.as_tensor([0.3]),
            lambda: torch.full((2,), 0.1),
            lambda: torch.linspace(0, 1, 7),
            lambda: torch.zeros(2),
            lambda: torch.tensor([1, 2]),
            lambda: torch.tensor(np.array([0.1])),
            lambda: torch.tensor([0.1], dtype=torch.float64),
            lambda: torch.tensor([0.1], dtype=torch.float16) * whole[3],
            lambda: whole * 0.1,
            lambda: 0.1 * whole,
            lambda: whole / 255,
            lambda: whole.div(whole + 1),
            lambda: 1 - whole,
            lambda: whole.double() / 3,
        ]
        wanted = [call() for call in calls]
        with default_dtype(dtype), float32_numbers():
            actual = [call() for call in calls]
        for one, other in zip(actual, wanted, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)

    @pytest.mark.parametrize("kind", few(tiny.KINDS, VARIED))
    def test_pixels_ignore_the_default_dtype(self, kind: str) -> None:
        """Processors of Transformers cache what they computed in their first use."""
        wanted = tiny.model(kind).image.prepare([tiny.image()]).values
        built = tiny.KINDS[kind]()
        with default_dtype(torch.bfloat16):
            model = load_model(built.module, processor=built.processor, tokenizer=built.tokenizer)
            actual = model.image.prepare([tiny.image()]).values
        assert torch.equal(actual, wanted)


class TestPlainTorch:
    def test_plain_torch_removes_and_restores_modes(self) -> None:
        with Passing() as own, all_modes():
            before = _get_current_function_mode_stack()
            with plain_torch():
                assert _get_current_function_mode_stack() == [own]
                assert torch.empty(1).device.type == "cpu"
                assert not torch.is_autocast_enabled("cpu")
                assert not torch.is_inference_mode_enabled()
                assert not torch.is_grad_enabled()
                with plain_torch(), torch.device("meta"):
                    assert torch.empty(1).device.type == "meta"
                assert torch.empty(1).device.type == "cpu"
            assert _get_current_function_mode_stack() == before
        assert _get_current_function_mode_stack() == []

    def test_plain_torch_keeps_the_gradient_mode(self) -> None:
        with plain_torch():
            assert torch.is_grad_enabled()
        with torch.no_grad(), plain_torch():
            assert not torch.is_grad_enabled()

    def test_plain_torch_leaves_other_threads_alone(self) -> None:
        entered, left, devices = threading.Event(), threading.Event(), []

        def other() -> None:
            with torch.device("meta"):
                assert entered.wait(10)
                devices.append(torch.empty(1).device.type)
            left.set()

        thread = threading.Thread(target=other)
        thread.start()
        with plain_torch():
            entered.set()
            assert left.wait(10)
        thread.join()
        assert devices == ["meta"]

    @pytest.mark.parametrize("kind", few(["siglip", "siglip naflex", "own vit", "coca", "bert"], ["own vit"]))
    def test_attention_is_recorded_under_a_foreign_mode(self, kind: str) -> None:
        """The multi-head attention of torch hands itself to that mode, which must not bypass the recorder.

        Under a mode, torch takes another path through its transformer layers, which rounds differently: 1e-5.
        """

        for method in [name for name in METHODS if "attention" in METHODS[name].needs]:
            with Passing():
                actual = explain_cheaply(kind, method)
            for side in ("image", "text"):
                one, other = getattr(actual, side).scores, getattr(cheap_explanation(kind, method), side).scores
                torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_reports_ignore_modes(dtype: torch.dtype, tmp_path: Path) -> None:
    """Pages and images are the same under the device ``meta`` and under another default dtype."""
    model = tiny.model("clip")
    answer, table = (verb(model, tiny.image(48, 40), "a red cat", steps=2) for verb in (nibt.explain, nibt.regions))
    box = (0, 0, 30, 30)
    expected = page([answer, table]), nibt.draw(answer).tobytes(), table.for_region(box), answer.heatmap().tobytes()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            seen = page([answer, table]), nibt.draw(answer).tobytes(), table.for_region(box), answer.heatmap().tobytes()
    finally:
        torch.set_default_dtype(before)
    assert seen == expected


def test_threads_leave_no_filter_of_warnings() -> None:
    before = list(warnings.filters)
    start = threading.Barrier(6)

    def quiet() -> None:
        start.wait()
        for _ in range(200):
            with without_warnings():
                warnings.warn("this is not shown", stacklevel=1)

    threads = [threading.Thread(target=quiet) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's own, that the detection is slow
@pytest.mark.parametrize("kind", ["clip", "own vit attention"])
def test_tables_are_computed_while_anomalies_are_detected(kind: str) -> None:
    """PyTorch's detection of anomalies cannot take several gradients at once, from which tables are computed."""
    model, image = tiny.model(kind), tiny.image(48, 40)
    expected = nibt.regions(model, image, "a red cat", steps=2)
    vectors = nibt.contributions(model, image, steps=2).vectors

    with torch.autograd.set_detect_anomaly(True):
        torch.testing.assert_close(nibt.regions(model, image, "a red cat", steps=2).table, expected.table)
        torch.testing.assert_close(nibt.contributions(model, image, steps=2).vectors, vectors)
        assert torch.is_anomaly_enabled()
