"""Tests of ``nibt.metrics.base``."""

import numpy as np
import pytest

import nibt
from nibt.data.images import ImageInput
from nibt.data.pair import Object, Pair
from nibt.metrics.base import Metric
from nibt.registry import available, find
from tests import tiny
from tests.metrics.known_maps import FIRST, of, on


@pytest.mark.parametrize("name", ["pointing_game", "energy", "intersection_over_union", "average_precision"])
def test_mask_metrics_need_a_mask(name: str) -> None:
    assert np.isnan(of(name, on(FIRST, None)))


@pytest.mark.parametrize("name", available("metrics"))
def test_metrics_declare_their_sides_and_direction(name: str) -> None:
    kind: type[Metric] = find("metrics", name)
    assert kind.better in ("higher", "lower", "neither")
    assert set(kind.sides) <= {"image", "text"}
    model = tiny.model("clip")
    pair = Pair(ImageInput(tiny.image().pil_image, "drawn"), "a cat", (Object("cat", (2, 2, 9, 9), None, ((2, 5),)),))
    rows = nibt.measure(model, [pair, pair], [name], batch_size=2)
    assert [(row.item, row.side) for row in rows] == [(item, side) for item in (0, 1) for side in kind.sides]
    assert rows[0].value == pytest.approx(
        rows[len(kind.sides)].value, abs=1e-3, nan_ok=True
    )  # equal inputs in one batch
