"""Tests of the metric ``noun_mass`` over patches, the recognition of FIxLIP's pointing game."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nibt.data.images import ImageInput
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.data.units import Grid
from nibt.engine.regions import explain_pair, resolve_regions
from nibt.evaluation.context import nouns_of, others_of
from nibt.metrics.base import Noun, RegionsInput
from nibt.metrics.localization import NounMass
from nibt.registry import MethodSpec
from nibt.results.regions import Regions
from tests import tiny
from tests.answers import with_scores
from tests.helpers import Record, assert_error_below
from tests.metrics.known_tables import number, tiny_table

SIDE = 56  # pixels


def cells_of_authors(side: int) -> list[list[int]]:
    """Return the patches of each cell, without the row and the column in the middle of an odd grid."""
    half = side // 2
    starts = [(row, column) for row in (0, side - half) for column in (0, side - half)]
    return [
        [(row + down) * side + column + right for down in range(half) for right in range(half)]
        for row, column in starts
    ]


def recognition_by_hand(table: np.ndarray, side: int, named: list[int]) -> float:
    """Return the share of the right mass, where word i names the cell ``named[i]``."""
    cells, right, wrong = cells_of_authors(side), 0.0, 0.0
    for row, cell in zip(table, named, strict=True):
        inside = row[cells[cell]]
        outside = np.concatenate([row[cells[other]] for other in range(4) if other != cell])
        right += inside[inside > 0].sum() - outside[outside < 0].sum()
        wrong += outside[outside > 0].sum() - inside[inside < 0].sum()
    return right / (right + wrong)


def quadrant(cell: int) -> torch.Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    top, left = (SIDE // 2 * place for place in divmod(cell, 2))
    mask[top : top + SIDE // 2, left : left + SIDE // 2] = True
    return mask


def trial(table: np.ndarray, side: int, named: list[int]) -> RegionsInput:
    like = tiny_table("occlusion")[0]
    scores = torch.zeros(len(like.words) + 1, side * side + 1)
    scores[: len(table), :-1] = torch.from_numpy(table)
    regions: Regions = with_scores(like, scores, Grid(side, side))
    masks = [quadrant(cell) for cell in named]
    nouns = tuple(
        Noun((place,), mask, tuple(other for rank, other in enumerate(masks) if rank != place))
        for place, mask in enumerate(masks)
    )
    others = tuple(quadrant(cell) for cell in range(4) if cell not in named)
    image: Any = SimpleNamespace(units=Grid(side, side))
    return RegionsInput(regions, image, image, nouns, others)


@pytest.mark.slow
def test_recognition_equals_the_formula_of_the_authors(record_property: Record, unchecked: None) -> None:
    rng = np.random.default_rng(0)
    cases = [
        (rng.standard_normal((count, side * side)), side, rng.permutation(4)[:count].tolist())
        for side in (7, 8, 14)
        for count in (1, 2, 3, 4)
    ]
    actual = [number(NounMass("patches"), trial(*case)) for case in cases]
    assert_error_below(1e-6, actual, [recognition_by_hand(*case) for case in cases], record_property)


@pytest.mark.parametrize("side", [7, 8])
def test_known_tables_are_recognized(side: int, unchecked: None) -> None:
    cells = cells_of_authors(side)
    table = -np.ones((2, side * side))
    for row, cell in enumerate((3, 1)):
        table[row, cells[cell]] = 1
    assert number(NounMass("patches"), trial(table, side, [3, 1])) == 1
    assert number(NounMass("patches"), trial(-table, side, [3, 1])) == 0
    table[:, np.setdiff1d(np.arange(side * side), np.concatenate(cells))] = 7
    assert number(NounMass("patches"), trial(table, side, [3, 1])) == 1, "patches on the edge of two cells do not count"


def test_recognition_needs_a_noun(unchecked: None) -> None:
    assert np.isnan(number(NounMass("patches"), trial(np.ones((1, 49)), 7, [])))
    assert number(NounMass("patches"), trial(np.zeros((1, 49)), 7, [0])) == 0
    alone = trial(np.ones((1, 49)), 7, [0])
    assert number(NounMass("patches"), RegionsInput(alone.regions, alone.image, alone.text, alone.nouns)) == 1


def test_objects_that_the_caption_does_not_name_are_others() -> None:
    boxes = {"cat": (0, 0, 32, 24), "dog": (32, 0, 32, 24), "bird": (0, 24, 32, 24)}
    caption = "a cat"
    objects = tuple(Object(name, box, None, ((2, 5),) if name == "cat" else ()) for name, box in boxes.items())
    pair = Pair(ImageInput(tiny.image().pil_image, "drawn"), caption, objects)
    regions, image, text = explain_pair(
        resolve_regions(tiny.model("clip"), MethodSpec("occlusion", "default", {})), pair, ()
    )
    nouns, others = nouns_of(pair, regions.region, regions.units), others_of(pair, regions.region)
    assert len(nouns) == 1
    assert not nouns[0].others
    assert len(others) == 2
    assert not any((nouns[0].mask & other).any() for other in others)
    full = RegionsInput(regions, image, text, nouns, others)
    assert number(NounMass("patches"), full) != number(NounMass("patches"), RegionsInput(regions, image, text, nouns))
