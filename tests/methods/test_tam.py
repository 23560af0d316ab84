"""Tests of the methods of answers ``tam`` and ``logit_lens`` against loops over their formulas."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from nibt.core.side import Side
from nibt.data.images import read_image
from nibt.data.units import SequenceUnits
from nibt.engine.forced_answers import ForcedAnswer
from nibt.errors import Unsupported
from nibt.models._answers import AnswerTower, Prompted
from nibt.registry import find
from tests import tiny
from tests.engine.test_answers import ANSWER, PROMPT, generator


def side_of(number: int) -> Side:
    model = generator("qwen2_vl")
    prompted = Prompted(read_image("sample:chelsea"), PROMPT)
    answer = model.answers.read(prompted, ANSWER)
    return ForcedAnswer(model, model.answers, prompted, answer).side([number], None, None)


def logits_of(side: Side) -> np.ndarray:
    tower = side.tower
    assert isinstance(tower, AnswerTower)
    with torch.no_grad():
        return tower.logits(tower.last_states(side.cut(tower.depth).hidden))[0].numpy()


def rank_filter(cells: np.ndarray) -> np.ndarray:
    out, padded = np.zeros_like(cells), np.pad(cells, 1, mode="reflect")
    for row in range(cells.shape[0]):
        for column in range(cells.shape[1]):
            window = np.sort(padded[row : row + 3, column : column + 3].flatten())
            if window.mean() > 0:
                sigma = window.std() / window.mean()
                weights = np.exp(-((np.arange(9) - 4.0) ** 2) / (2 * sigma**2))
                out[row, column] = (window * weights / weights.sum()).sum()
    return out


@pytest.mark.parametrize("number", [0, 3, 4])
def test_tam_equals_its_formula(number: int) -> None:
    side = side_of(number)
    attribution = find("methods", "tam")()(side)
    units, ids = attribution.units, side.inputs.extra["input_ids"][0].tolist()
    assert isinstance(units, SequenceUnits)
    logits, cells = np.maximum(logits_of(side), 0), list(units.grid.tokens)
    assert side.inputs.words is not None
    before = [row for word in side.inputs.words.words[0] for row in word.tokens]
    target, start = int(side.inputs.extra["targets"][0, 0]), int(side.inputs.extra["start"][0])
    image = logits[cells, target]
    weights = {row: logits[row - 1 if row >= start else row, target] for row in before}
    others = [row for row in before if ids[row] != target]
    total = sum(weights[row] for row in others) + 1e-8
    interference = np.sum([weights[row] / total * logits[cells, ids[row]] for row in others], axis=0)
    fit: Any = minimize_scalar(lambda factor: float(np.square(image - factor * interference).sum()))
    scale = fit.x
    image = np.maximum(image - scale * interference, 0)
    everything = np.array([*image, *(weights[row] for row in before)])
    scaled = (everything - everything.min()) / (everything.max() - everything.min())
    expected = rank_filter(scaled[: len(cells)].reshape(units.grid.rows, units.grid.columns))
    grid = attribution.scores[0, : units.grid.count].reshape(expected.shape).numpy()
    assert np.allclose(grid, expected, atol=2e-4)
    rows = attribution.scores[0, units.grid.count :].numpy()
    assert np.allclose(rows[before], scaled[len(cells) :], atol=2e-4)


def test_logit_lens_is_the_probability_at_each_row() -> None:
    side = side_of(2)
    method = find("methods", "logit_lens").configured(side.tower, "default", {}, {})
    attribution = method(side)
    logits = torch.from_numpy(logits_of(side))
    assert method.layer == (side.tower.depth,)
    target = int(side.inputs.extra["targets"][0, 0])
    expected = logits.softmax(-1)[:, target]
    units = attribution.units
    assert isinstance(units, SequenceUnits)
    assert torch.allclose(attribution.scores[0, : units.grid.count], expected[list(units.grid.tokens)], atol=1e-6)


@pytest.mark.parametrize("name", ["tam", "logit_lens"])
def test_dual_encoders_have_no_answers(name: str) -> None:
    with pytest.raises(Unsupported, match=f"{name} needs answer, which this image tower"):
        find("methods", name).configured(tiny.model("clip").image, "default", {}, {})
