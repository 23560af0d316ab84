"""Metrics compared with Quantus, and with loops written from the authors' programs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nibt.core.inpainting import interpolated
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.metrics.base import MetricInput
from nibt.metrics.faithfulness import Deletion, Insertion
from nibt.registry import find
from nibt.results.attribution import Attribution
from nibt.results.pixels import to_pixels
from tests import linear, tiny
from tests.helpers import Record, assert_error_below, make_side, peer
from tests.metrics.known_maps import caption_input, of, on

pytestmark = pytest.mark.slow
SEEDS = range(20)


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """Return the scores of 4 x 4 cells and a mask of 8 x 8 pixels."""
    draw = np.random.default_rng(seed)
    scores, mask = draw.normal(size=(4, 4)), draw.random((8, 8)) < draw.uniform(0.1, 0.7)
    return torch.from_numpy(scores).float(), torch.from_numpy(mask)


def pixels(scores: Tensor) -> np.ndarray:
    """Return a map of pixels, one of a batch."""
    return to_pixels(scores[None], 8, 8).double().numpy()


# Quantus: (metric, its options here, class in Quantus, its options, what the map passes through first)
LOCALIZATION: dict[str, tuple[dict[str, Any], str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "energy": ({}, "RelevanceMassAccuracy", {}, lambda values: np.maximum(values, 0)),
    "pointing_game": ({"tolerance": 0.0}, "PointingGame", {}, lambda values: values),
    "relevance_rank": ({}, "RelevanceRankAccuracy", {}, lambda values: values),
    "top_k_intersection": ({"share": 0.2}, "TopKIntersection", {"k": 13}, lambda values: values),  # of 64 pixels
}


@pytest.mark.parametrize("name", LOCALIZATION)
def test_localization_equals_quantus(name: str, record_property: Record) -> None:
    options, theirs, more, change = LOCALIZATION[name]
    metric = peer(f"quantus.{theirs}")(abs=False, normalise=False, disable_warnings=True, **more)
    actual, wanted = [], []
    for scores, mask in map(drawn, SEEDS):
        actual.append(of(name, on(scores, mask), **options))
        wanted.append(metric.evaluate_batch(a_batch=change(pixels(scores)), s_batch=mask.numpy()[None])[0])
    assert_error_below(1e-6, actual, wanted, record_property)


def test_sparseness_equals_quantus(record_property: Record) -> None:
    metric = peer("quantus.Sparseness")(abs=True, normalise=False, disable_warnings=True)
    maps = [drawn(seed)[0] for seed in SEEDS]
    wanted = [metric.evaluate_batch(x_batch=None, a_batch=scores.abs().double().numpy()[None])[0] for scores in maps]
    assert_error_below(1e-6, [of("sparseness", on(scores)) for scores in maps], wanted, record_property)


def test_area_under_the_curve_of_words_equals_quantus(record_property: Record) -> None:
    metric = peer("quantus.AUC")(abs=False, normalise=False, disable_warnings=True)
    actual, wanted = [], []
    for seed in SEEDS:
        draw = np.random.default_rng(seed)
        scores, named = draw.normal(size=7), draw.permutation([True, True, True, False, False, False, False])
        actual.append(of("word_auc", caption_input(scores.tolist(), named.tolist())))
        wanted.append(metric.evaluate_batch(a_batch=scores[None], s_batch=named[None])[0])
    assert_error_below(1e-6, actual, wanted, record_property)


class _Logits(nn.Module):
    """The score of each image of a batch, as the first of two classes."""

    def __init__(self, side: Side) -> None:
        super().__init__()
        self.side = side

    def forward(self, values: Tensor) -> Tensor:
        score = self.side.score(self.side.tower.encode(type(self.side.inputs)(values.float())))
        return torch.stack([score, torch.zeros_like(score)], -1)


@pytest.mark.parametrize("kind", ["linear", "clip", "own vit"])
def test_deletion_equals_the_flipped_pixels_of_quantus(kind: str, record_property: Record) -> None:
    """Quantus removes pixels in the order of a map that is constant on each patch, as many at once as a patch has."""
    side = linear.image_side() if kind == "linear" else make_side(tiny.model(kind), "image")
    values, grid = side.inputs.values, side.units
    assert isinstance(grid, Grid)
    scores = torch.from_numpy(np.random.default_rng(0).permutation(2 * grid.count).reshape(2, -1)).float()
    answer = Attribution(scores, grid, torch.zeros(2))
    _, curve = Deletion(levels=grid.count).measured(MetricInput(side, answer))
    size = values.shape[-2] // grid.rows, values.shape[-1] // grid.columns
    maps = grid.unfold(scores)[:, None].repeat_interleave(size[0], 2).repeat_interleave(size[1], 3)
    metric = peer("quantus.PixelFlipping")(
        features_in_step=3 * size[0] * size[1], perturb_baseline=0.0, abs=False, normalise=False, disable_warnings=True
    )
    model = peer("quantus.helpers.model.pytorch_model.PyTorchModel")(_Logits(side).eval(), channel_first=True)
    wanted = metric.evaluate_batch(model=model, x_batch=values.numpy(), y_batch=np.zeros(2, int), a_batch=maps.numpy())
    assert_error_below(1e-6 if kind != "linear" else 1e-4, curve[:, 1:], wanted, record_property)


def test_pixels_filled_from_their_neighbors_equal_quantus(record_property: Record) -> None:
    fill = peer("quantus.functions.perturb_func.noisy_linear_imputation")
    draw = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        image, removed = draw.normal(size=(3, 9, 12)), draw.random((9, 12)) < share
        wanted = fill(image, np.flatnonzero(removed), noise=0.0)[:, removed]
        assert_error_below(1e-9, interpolated(image, removed), wanted, record_property)


# The authors' programs, written anew


def test_deletion_and_insertion_equal_the_program_of_rise(record_property: Record) -> None:
    """Pixels change from the highest score on, a step at a time; the area halves the first and the last score.

    Insertion starts at the mean color here, and at a blurred image there.
    """
    side = make_side(tiny.model("clip"), "image")
    grid, values = side.units, side.inputs.values
    assert isinstance(grid, Grid)
    height, width = values.shape[-2:]
    actual, wanted = [], []
    for seed in range(4):
        scores = torch.from_numpy(np.random.default_rng(seed).permutation(2 * grid.count).reshape(2, -1)).float()
        trial = MetricInput(side, Attribution(scores, grid, torch.zeros(2)))
        tall = scores.reshape(2, grid.rows, grid.columns)
        wide = tall.repeat_interleave(height // grid.rows, 1).repeat_interleave(width // grid.columns, 2).reshape(2, -1)
        for metric in (Deletion(levels=8), Insertion(levels=8)):
            start, finish = values.clone(), torch.zeros_like(values)
            if isinstance(metric, Insertion):
                start, finish = finish, start
            step, curve = height * width // 8, []
            for level in range(9):
                with torch.no_grad():
                    curve.append(side.score(side.tower.encode(replace(side.inputs, values=start))).numpy())
                for item in range(2):
                    chosen = np.argsort(-wide[item].numpy(), kind="stable")[step * level : step * (level + 1)]
                    start[item].reshape(3, -1)[:, chosen] = finish[item].reshape(3, -1)[:, chosen]
            actual.append(metric(trial).numpy())
            wanted.append((np.sum(curve, 0) - curve[0] / 2 - curve[-1] / 2) / 8)
    assert_error_below(1e-6, actual, wanted, record_property)


def test_pointing_and_energy_equal_loops_over_the_pixels(record_property: Record) -> None:
    """The maximum within 15 of 640 pixels of the mask, and the share of the positive scores on it."""
    actual, wanted = [], []
    for scores, mask in map(drawn, SEEDS):
        values, inside, outside, best = pixels(scores)[0], 0.0, 0.0, (0, 0)
        for row in range(8):
            for column in range(8):
                value = max(0.0, float(values[row, column]))
                inside, outside = (inside + value, outside) if mask[row, column] else (inside, outside + value)
                best = (row, column) if values[row, column] > values[best] else best
        for tolerance in (15 / 640, 2 / 8):
            hit = any(
                (row - best[0]) ** 2 + (column - best[1]) ** 2 <= (tolerance * 8) ** 2
                for row, column in np.argwhere(mask.numpy()).tolist()
            )
            actual.append(of("pointing_game", on(scores, mask), tolerance=tolerance))
            wanted.append(float(hit))
        actual.append(of("energy", on(scores, mask)))
        wanted.append(inside / (inside + outside))
    assert_error_below(1e-6, actual, wanted, record_property)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_confidence_equals_its_formula(modality: str, record_property: Record) -> None:
    """100 max(0, S - S of what is kept), and 100 where what is kept has more; scores are scaled to [0, 1] first.

    An image's map is upsampled and multiplied with the normalized pixels; a word is moved toward the padding token.
    """
    side = make_side(tiny.model("clip"), modality)
    actual, wanted = [], []
    for seed in range(6):
        scores = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, side.units.count))).float()
        if modality == "text":
            scores = side.units.keep(scores)
        trial = MetricInput(side, Attribution(scores, side.units, torch.zeros(2)))
        kept = []
        for item in range(2):
            if modality == "image":
                span = scores[item] - scores[item].min()
                keep = side.units.unfold(span / span.max())[None, None]
                mask = nn.functional.interpolate(keep, side.inputs.values.shape[-2:], mode="bilinear")[0]
                changed = replace(side.inputs, values=side.inputs.values.clone())
                changed.values[item] *= mask[0]
                with torch.no_grad():
                    kept.append(float(side.score(side.tower.run(changed))[item]))
            else:
                rows = side.units.explained[item].nonzero()[:, 0].tolist()
                low, high = (float(pick(scores[item, rows])) for pick in (torch.min, torch.max))
                stem = side.stem()
                hidden = stem.hidden.clone()
                padding = side.tower.embedder(torch.tensor(side.tower.pad[0])).detach()
                for row in rows:
                    share = (float(scores[item, row]) - low) / (high - low)
                    hidden[item, row] = share * hidden[item, row] + (1 - share) * padding
                with torch.no_grad():
                    kept.append(float(side.score(stem.rest(hidden[None])[0])[item]))
        before = side.value().tolist()
        for name, number in (
            ("confidence_drop", lambda whole, part: 100 * max(0.0, whole - part)),
            ("confidence_increase", lambda whole, part: 100.0 * (part > whole)),
        ):
            actual.append(find("metrics", name)()(trial).tolist())
            wanted.append([number(whole, part) for whole, part in zip(before, kept, strict=True)])
    assert_error_below(2e-4, actual, wanted, record_property)  # in per cent
