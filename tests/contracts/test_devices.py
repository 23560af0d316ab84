"""All that nibt computes on a device that pretends to be an accelerator (``tests/pretend_device.py``).

It finds tensors that are created on the CPU and meet those of the model, conversions to NumPy without a copy, and
float64 on ``mps``. Draws are made on the CPU, so the results are those of the CPU (torch's multi-head attention
has another path inside a mode, so a few bits differ).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nibt
from nibt.datasets.scenes import Scenes
from nibt.models.base import Model
from tests import tiny
from tests.helpers import CHEAP, METHODS, assert_close, cheap_explanation, explain_cheaply
from tests.pretend_device import is_marked, pretend
from tests.suites import few

DEVICES = ("cuda", "mps", "xpu")
KINDS = ("clip", "siglip naflex", "own vit", "convnext", "mt5")
IMAGES, CAPTIONS = [tiny.image(), tiny.image(seed=1)], list(tiny.CAPTIONS[:2])


def calibrated(model: Model, folder: Path) -> Any:
    nibt.calibrate(model, IMAGES, CAPTIONS, out=folder / "mean.safetensors")
    return nibt.explain(model, IMAGES, CAPTIONS, baseline=f"mean:{folder / 'mean.safetensors'}", steps=2)


def table(method: str) -> Callable[[Model, Path], Any]:
    return lambda model, _: nibt.regions(model, IMAGES[0], CAPTIONS[0], method=method, **CHEAP.get(method, {}))


def explained(**options: Any) -> Callable[[Model, Path], Any]:
    return lambda model, _: nibt.explain(model, IMAGES, CAPTIONS, **options)


VERBS: dict[str, Callable[[Model, Path], Any]] = {
    "metrics": lambda model, _: nibt.measure(model, list(Scenes(count=2)), steps=2, views=1),
    "metrics of regions": lambda model, _: nibt.measure(
        model, list(Scenes(count=2)), method="occlusion", side="regions"
    ),
    "calibrate": calibrated,
    "views": explained(views=3, steps=1),
    "softmax": explained(target="softmax", against=["a bird"], steps=2),
    "ensemble": explained(target="ensemble", templates=["a photo of {}", "{}"], steps=2),
    "noise": explained(noise="features", samples=2, steps=2),
    "tolerance": explained(tolerance=0.01),
    "along the path": explained(method="grad_cam", along_path=True),
    "segments": explained(method="occlusion", units="segments"),
    "adaib": explained(method="m2ib", variant="adaib", steps=2, samples=2),
    "two images": lambda model, _: nibt.compare(model, *IMAGES, steps=2),
    "two captions": lambda model, _: nibt.compare(model, nibt.Caption(CAPTIONS[0]), CAPTIONS[1], steps=2),
    "labels": lambda model, _: nibt.explain_ranking(model, IMAGES[0], CAPTIONS, steps=2),
    "rank": lambda model, _: nibt.rank(model, IMAGES[0], CAPTIONS),
    "words": lambda model, _: nibt.replace_words(model, IMAGES[0], CAPTIONS[0], ["bird"]),
    "decomposition": lambda model, _: [
        nibt.decompose(model, IMAGES[0], CAPTIONS[0], side=side) for side in ("image", "text")
    ],
    "names of heads": lambda model, _: nibt.name_heads(model, IMAGES, CAPTIONS, 2),
    "ablation of heads": lambda model, _: nibt.ablate_heads(model, IMAGES, CAPTIONS[0], heads=[(1, 0)]),
    "attentions": lambda model, _: [model.attentions(item) for item in (IMAGES[0], CAPTIONS[0])],
    **{
        f"table of {method}": table(method)
        for method in ("nib", "occlusion", "banzhaf", "fixlip", "rise", "gae", "grad_cam")
    },
    "embeddings": lambda model, _: nibt.explain_embeddings(
        model, IMAGES[0], torch.linspace(-1, 1, 24, dtype=torch.float32).view(2, 12), steps=2
    ),
    "audit": lambda model, _: nibt.audit(model, list(Scenes(count=8)), "nib", quick=True),
    "roar": lambda model, folder: nibt.roar(
        model,
        list(Scenes(count=12)),
        "ones",
        out=folder / "roar",
        trainable=["features", "last", "whole"],
        epochs=1,
        repeats=1,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("device", few(DEVICES, ["cuda"]))
@pytest.mark.parametrize("kind", few(KINDS, ["clip"]))
def test_methods_run_on_a_device(kind: str, device: str) -> None:
    model = tiny.model(kind)
    for method in METHODS:
        expected = cheap_explanation(kind, method)
        if expected is None:
            continue
        with pretend(device, model.module):
            actual = explain_cheaply(kind, method)
            assert actual.model["device"] == device
        for side in ("image", "text"):
            assert_close(getattr(actual, side).scores, getattr(expected, side).scores, least=1e-9)


@pytest.mark.parametrize("device", few(["cuda", "mps"], ["cuda"]))
@pytest.mark.parametrize(
    "verb",
    few(VERBS, ["views", "two images", "embeddings"]),
)
def test_functions_run_on_a_device(verb: str, device: str, tmp_path: Path) -> None:
    model = tiny.fresh("clip")
    with pretend(device, model.module):
        assert model.device == device
        VERBS[verb](model, tmp_path)
    assert model.device == "cpu"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", few([torch.float16, torch.bfloat16], [torch.bfloat16]))
def test_weights_in_half_precision_run_on_a_device(dtype: torch.dtype) -> None:
    built = tiny.clip()
    model = nibt.load_model(built.module.to(dtype), processor=built.processor)
    expected = nibt.explain(model, IMAGES, CAPTIONS)
    with pretend("cuda", model.module):
        actual = nibt.explain(model, IMAGES, CAPTIONS)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one.image.scores, other.image.scores)
        assert_close(one.text.scores, other.text.scores)


class TestPretendDevice:
    """The device refuses what accelerators refuse, and allows what they allow."""

    @staticmethod
    def placed(device: str, act: Callable[[Tensor], Any]) -> Any:
        module = nn.Linear(2, 2)
        with pretend(device, module):
            return act(module.weight)

    @pytest.mark.parametrize(
        "act",
        [
            lambda weight: weight + torch.ones(2),
            lambda weight: torch.cat([weight, torch.ones(2, 2)]),
            lambda weight: nn.functional.linear(torch.ones(3, 2), weight),
            lambda weight: (weight * 2).detach() @ torch.eye(2),
            lambda weight: torch.where(torch.ones(2, 2, dtype=torch.bool), weight, 0.0),
        ],
    )
    def test_tensors_of_the_cpu_are_refused(self, act: Callable[[Tensor], Any]) -> None:
        with pytest.raises(RuntimeError, match="on the same device"):
            self.placed("cuda", act)

    def test_numpy_and_float64_are_refused(self) -> None:
        with pytest.raises(TypeError, match="to numpy"):
            self.placed("cuda", lambda weight: weight.detach().numpy())
        with pytest.raises(TypeError, match="float64"):
            self.placed("mps", lambda weight: weight.double())
        with pytest.raises(TypeError, match="float64"):
            self.placed("mps", lambda weight: torch.zeros(2, dtype=torch.float64, device=weight.device))

    def test_what_accelerators_allow_is_allowed(self) -> None:
        def act(weight: Tensor) -> None:
            for one in (weight * 2, weight + torch.tensor(1.0), weight[torch.tensor([0])], weight.mT @ weight):
                assert is_marked(one)
            assert is_marked(torch.ones(2, device=weight.device))
            assert is_marked(torch.ones(2).to(weight))
            assert is_marked(weight.new_zeros(2))
            assert not is_marked(weight.cpu())
            assert weight.cpu().detach().double().numpy().shape == (2, 2)
            assert weight.cpu().device.type == "cpu"

        self.placed("cuda", act)
        self.placed("mps", act)
