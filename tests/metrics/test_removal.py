"""Tests of ``nibt.metrics.removal``."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.core.side import Side
from nibt.data.ground_truth import GroundTruth
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.data.units import Grid
from nibt.datasets.scenes import Scenes
from nibt.engine.encode import encode
from nibt.metrics.base import MetricInput
from nibt.metrics.removal import Removal
from nibt.models.base import Model
from nibt.results.attribution import Attribution
from tests import linear, tiny

SCENES = Scenes(count=6, seed=5, fewest=2, most=3, named="all")


class Recorded(Removal):
    """Keeps what the metric compares."""

    def __call__(self, metric_input: MetricInput) -> Any:
        KEPT[:] = self.effects(metric_input)
        return super().__call__(metric_input)


KEPT: list[tuple[np.ndarray, np.ndarray]] = []


def effects(model: Model, pair: Pair, method: str = "gae", **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of a map on the named objects, and the drops."""
    nibt.measure(model, [pair], [Recorded()], method, side="image", **options)
    return KEPT[0]


@pytest.mark.parametrize("kind", ["clip", "siglip naflex"])
def test_drops_are_those_of_images_drawn_again(kind: str) -> None:
    model, pairs = tiny.model(kind), list(SCENES)
    values = [row.value for row in nibt.measure(model, pairs, ["removal"], "gae", side="image", batch_size=6)]
    for pair, value in zip(pairs, values, strict=True):
        sums, drops = effects(model, pair)
        images = [pair.image, *(obj.without() for obj in pair.objects)]  # pyright: ignore[reportOptionalCall]
        scores = model.similarity(encode(model.image, images), encode(model.text, [pair.caption])).double().numpy()
        np.testing.assert_allclose(drops, scores[0] - scores[1:], atol=1e-5)
        assert value == (sums.argmax() == drops.argmax())
    assert len({len(pair.objects) for pair in pairs}) > 1, "images with two and with three objects"


def exact_input(reverse: bool = False) -> MetricInput:
    """Return exact maps of linear scores: mean color, but for an object in the first and one in the last patch."""
    cells = torch.zeros(linear.ROWS, linear.COLUMNS)
    cells[0, 0], cells[-1, -1] = 1, 2
    pixels = cells.repeat_interleave(linear.PATCH, 0).repeat_interleave(linear.PATCH, 1)
    drawn = linear.image_side()
    inputs = replace(drawn.inputs, values=drawn.inputs.values * (pixels > 0))
    side = Side(drawn.model, drawn.tower.trace(inputs), drawn.score)
    truth = GroundTruth(pixels > 0, objects=(pixels == 1, pixels == 2), without=(None, None))
    scores = linear.parts(side)
    assert isinstance(side.units, Grid)
    return MetricInput(side, Attribution(-scores if reverse else scores, side.units, torch.zeros(2)), (truth, truth))


def test_sums_of_exact_maps_are_the_drops_by_filling_in() -> None:
    exact = exact_input()
    for sums, drops in Removal().effects(exact):
        np.testing.assert_allclose(sums, drops, rtol=1e-4)
    assert Removal()(exact).tolist() == [1, 1]
    assert Removal()(exact_input(reverse=True)).tolist() == [0, 0]


def test_sums_divide_cells_by_area() -> None:
    model, image = tiny.model("clip"), tiny.image(32, 32)
    masks = [np.arange(32)[None].repeat(32, 0) < 13]
    masks.append(~masks[0])
    spans = (((2, 5),), ((12, 15),))
    objects = tuple(Object("thing", None, mask, span) for mask, span in zip(masks, spans, strict=True))
    sums, drops = effects(model, Pair(image, "a cat and a dog", objects))
    part = nibt.explain(model, image, "a cat and a dog", method="gae").image
    assert sums.sum() == pytest.approx(float(part.grid.sum()), rel=1e-5), "the objects cover the image"
    np.testing.assert_allclose(sums, part.segment_scores(masks[1].astype(int)), rtol=1e-5)
    assert np.isfinite(drops).all()


def test_images_without_several_named_objects_have_no_value() -> None:
    exact = exact_input()
    (truth, _) = exact.truths
    single = replace(truth, objects=truth.objects[:1], without=(None,))
    values = Removal()(replace(exact, truths=(GroundTruth(), single)))
    assert values.isnan().all()


def test_towers_of_patches_cannot_fill_in() -> None:
    """What is no image is not filled in, so only data sets that draw again give a value."""
    pair = SCENES[0]
    objects = tuple(replace(obj, without=None) for obj in pair.objects)
    sums, drops = effects(tiny.model("siglip naflex"), replace(pair, objects=objects))
    assert np.isfinite(sums).all()
    assert np.isnan(drops).all()


def test_equal_sums_share_the_value_and_equal_drops_have_none() -> None:
    exact = exact_input()
    flat = replace(exact, attribution=replace(exact.attribution, scores=torch.zeros_like(exact.attribution.scores)))
    assert Removal()(flat).tolist() == [0.5, 0.5]
    (truth, _) = exact.truths
    twice = replace(truth, objects=truth.objects[:1] * 2)
    assert Removal()(replace(exact_input(), truths=(twice, twice))).isnan().all()


def test_small_objects_are_removed() -> None:
    image = tiny.image(900, 900)
    masks = np.zeros((2, 900, 900), bool)
    masks[0, 401:403, 401:403], masks[1, 600:602, 300:302] = True, True
    objects = tuple(Object("thing", None, mask, ((at, at + 3),)) for mask, at in zip(masks, (2, 12), strict=True))
    _, drops = effects(tiny.model("clip"), Pair(image, "a cat and a dog", objects))
    assert (drops != 0).all()
