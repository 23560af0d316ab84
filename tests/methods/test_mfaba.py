"""Tests of ``nibt.methods.input_paths``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.units import Words
from nibt.methods.input_paths import MFABA
from nibt.models._inputs import Cut
from nibt.results.pixels import to_pixels
from nibt.targets.base import CosineSimilarity, Score
from nibt.targets.similarity import Cosine
from tests import linear, tiny
from tests.helpers import Golden, both_sides, make_side, stretch
from tests.suites import few

COSINE = CosineSimilarity()


class EveryRow(Side):
    """A side whose special tokens are explained as well, as the authors keep them."""

    def stem(self) -> Cut:
        stem = super().stem()
        if isinstance(stem.units, Words):
            stem = replace(stem, units=replace(stem.units, explained=torch.ones_like(stem.units.explained)))
        return stem


@both_sides
@pytest.mark.parametrize("case", few([0, 1], [0]))
def test_mfaba_equals_the_output_of_the_authors(golden: Golden, case: int, modality: str) -> None:
    model = golden.model
    image = model.image.trace(model.image.prepare([nibt.data.images.read_image(golden.images[case])]))
    text = model.text.trace(model.text.prepare([golden.captions[case]]))
    here, opposite = (image, text) if modality == "image" else (text, image)
    of = EveryRow(model, here, Score(Cosine(), COSINE, other=opposite.embedding))
    scores = MFABA.configured(here.tower, "paper", {}, {})(of).scores[0]
    if modality == "image":
        scores = to_pixels(scores.unflatten(0, (7, 7)), 224, 224)
    stretched = stretch(scores.squeeze())
    actual = stretched[::8, ::8] if modality == "image" else stretched
    wanted = golden.outputs[f"mfaba_{'v' if modality == 'image' else 't'}_{case}"]
    np.testing.assert_allclose(actual.squeeze(), wanted.squeeze(), atol=1e-4)


@linear.both_sides
def test_mfaba_on_a_linear_tower_is_known(of: Side) -> None:
    """The gradient is constant: each step adds its stride times the absolute gradient."""
    gradient = 4 * of.tower.root.weights[: of.stem().hidden.shape[1]].detach()
    wanted = of.stem().units.keep((7 * 0.02 * gradient.abs().sum(-1)).expand(len(of.inputs), -1))
    torch.testing.assert_close(MFABA(7, 0.02)(of).scores, wanted)


@both_sides
def test_mfaba_moves_against_the_score(modality: str) -> None:
    of = make_side(tiny.model("clip"), modality)
    scores = MFABA(steps=1)(of)
    stem = of.stem()
    states = stem.hidden[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(of.score(stem.rest(states)).sum(), states)
    torch.testing.assert_close(scores.scores, stem.units.keep(0.01 * gradient[0].abs().sum(-1)))
    assert not torch.allclose(MFABA(steps=2)(of).scores, 2 * scores.scores, rtol=1e-4), (
        "the second step starts at another state"
    )
