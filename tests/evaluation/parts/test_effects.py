"""Tests of ``nibt.evaluation.parts.effects``, on encoders whose reason is known: they read the color of places."""

from typing import Any

import numpy as np
import pytest

from nibt.data.images import Region
from nibt.evaluation.parts.effects import Losses, effects, losses, random_cells
from tests.evaluation.audit.test_exchange import (
    CELL,
    CENTER,
    CORNER,
    DONORS,
    MANY,
    PAIRS,
    SIDE,
    color_at,
    color_named,
    model,
)

pytest.importorskip("scipy", reason="a share has an interval")
pytestmark = pytest.mark.usefixtures("unchecked")  # its encoders are no models of nibt
REGIONS = [Region(0, 0, SIDE, SIDE)] * MANY
READS_CORNER = model(color_at(CORNER), color_named)


def cells(*places: Any) -> dict[int, np.ndarray]:
    """Return the cells at places, of each image."""
    pixels = np.zeros((SIDE, SIDE), bool)
    for place in places:
        pixels[place] = True
    return dict.fromkeys(range(MANY), pixels[::CELL, ::CELL])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        pytest.param([CORNER], 1, id="what it reads"),
        pytest.param([CENTER], 0, id="what it does not read"),
        pytest.param([CORNER, CENTER], 1, id="both"),
    ],
)
def test_what_the_model_reads_is_needed_and_sufficient(part: list[Any], value: float) -> None:
    of_part = losses(READS_CORNER, PAIRS, DONORS, REGIONS, cells(*part))
    nothing = losses(READS_CORNER, PAIRS, DONORS, REGIONS, cells())
    needed, sufficient = effects(of_part, nothing)
    assert needed is not None
    assert sufficient is not None
    for effect in (needed, sufficient):
        assert effect.value == pytest.approx(value, abs=1e-6)
        assert effect.beyond_random == pytest.approx(value, abs=1e-6)
        assert effect.low <= effect.value + 1e-9
        assert effect.count == MANY


def test_half_of_what_a_model_reads_is_half_needed() -> None:
    reads_both = model(color_at(CORNER, CENTER), color_named)
    of_part = losses(reads_both, PAIRS, DONORS, REGIONS, cells(CORNER))
    # the cosine of a mean of two colors is not their mean cosine, but both places are alike
    np.testing.assert_allclose(of_part.by_cells, of_part.by_rest, atol=1e-6)


def test_a_part_takes_nothing_beyond_cells_that_are_alike() -> None:
    of_part = losses(READS_CORNER, PAIRS, DONORS, REGIONS, cells(CORNER))
    needed, _ = effects(of_part, of_part)
    assert needed is not None
    assert needed.beyond_random == 0


def test_random_cells_are_as_many() -> None:
    grids = cells(CORNER, CENTER)
    drawn = random_cells(grids, np.random.default_rng(0))
    assert {item: grid.sum() for item, grid in drawn.items()} == {item: grid.sum() for item, grid in grids.items()}
    assert any(not np.array_equal(drawn[item], grids[item]) for item in grids)


def test_what_cells_add_to_the_embedding_is_their_color() -> None:
    changes = losses(READS_CORNER, PAIRS, DONORS, REGIONS, cells(CORNER)).changes
    assert changes is not None
    for item, change in enumerate(changes[:3]):
        assert change.argmax() == item
        assert change.argmin() == (item + 1) % 3


def test_an_effect_is_unknown_without_an_advantage_over_other_images() -> None:
    def other(caption: str) -> list[float]:
        return np.roll(color_named(caption), 1).tolist()

    lost = losses(model(color_at(CORNER), other), PAIRS, DONORS, REGIONS, cells(CORNER))
    assert effects(lost, lost) == (None, None)
    few = losses(READS_CORNER, PAIRS, DONORS, REGIONS, {0: cells(CORNER)[0]})
    assert effects(few, few) == (None, None)


def test_a_share_of_nearly_nothing_is_unknown() -> None:
    wholes = np.array([1.0, -1.0] * 6 + [0.02])
    nearly = Losses(np.full(13, 0.5), wholes - 0.5, wholes, None)
    assert abs(nearly.by_cells.sum() / wholes.sum()) > 100
    assert effects(nearly, nearly) == (None, None)


def test_the_images_of_the_user_stay_as_they_are() -> None:
    before = [np.array(pair.image.pil_image) for pair in PAIRS]
    losses(READS_CORNER, PAIRS, DONORS, REGIONS, cells(CORNER))
    for pair, pixels in zip(PAIRS, before, strict=True):
        assert np.array_equal(np.array(pair.image.pil_image), pixels)
