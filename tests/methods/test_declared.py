"""What methods declare, on which the matrix of the reference is built, is what they do."""

import numpy as np
import pytest
import torch

import nibt
from nibt.methods.base import pair_methods
from nibt.registry import available, find
from tests import tiny
from tests.suites import few

FEWER = {
    "eagle": {"segments": 4},
    "rise": {"masks": 8},
    "banzhaf": {"budget": 8},
    "shapley": {"budget": 8},
    "fixlip": {"budget": 8},
}


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each call of autograd."""
    calls: list[int] = []
    grad = torch.autograd.grad

    def counted(*arguments: object, **options: object) -> object:
        calls.append(1)
        return grad(*arguments, **options)  # pyright: ignore

    monkeypatch.setattr(torch.autograd, "grad", counted)
    return calls


@pytest.mark.parametrize("name", few(pair_methods(), ["nib", "gae", "clip_surgery", "occlusion"]))
def test_methods_declare_whether_they_use_gradients(name: str, gradients: list[int]) -> None:
    nibt.explain(tiny.model("clip"), tiny.image(), "a cat", name, **FEWER.get(name, {}))
    assert bool(gradients) == find("methods", name).uses_gradients


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in available("methods") if "answer" in find("methods", name).needs])
def test_methods_of_answers_declare_whether_they_use_gradients(name: str, gradients: list[int]) -> None:
    nibt.explain_answer(
        "scenes_generator", "sample:scene", "what is left of the house ?", method=name, **FEWER.get(name, {})
    )
    assert bool(gradients) == find("methods", name).uses_gradients


@pytest.mark.parametrize("name", [name for name in pair_methods() if find("methods", name).reads_score])
def test_methods_without_needs_explain_two_functions_and_others_do_not(name: str) -> None:
    model = nibt.load_model(
        images=lambda pictures: np.array([np.array(picture).mean((0, 1)) for picture in pictures]),
        texts=lambda captions: np.array([[1.0 + caption.count(color) for color in "rgb"] for caption in captions]),
        name="three letters",
    )
    if find("methods", name).needs:
        with pytest.raises(nibt.NibtError, match="needs"):
            nibt.explain(model, tiny.image(), "r g", name)
        return
    explanation = nibt.explain(model, tiny.image(), "r g", name, **FEWER.get(name, {}))
    assert explanation.image.scores.isfinite().all()
