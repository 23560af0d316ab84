"""Tests of the metric ``pair_area``."""

from itertools import combinations

import numpy as np
import pytest
import torch

from nibt.metrics.region_curves import PairArea, extreme_sets
from tests.helpers import Record, assert_error_below
from tests.metrics.known_tables import embeddings_by_hand, input_of, known, number, tiny_table


def value(table: np.ndarray, units: set[int]) -> float:
    """Return the sum of a table over the pairs in a set of patches and words, the patches first."""
    patches = table.shape[1]
    return sum(table[unit - patches, other] for unit in units for other in units if other < patches <= unit)


def greedy(table: np.ndarray) -> list[dict[bool, set[int]]]:
    """Return the sets of each size that a greedy search finds: True is the set with the largest value."""
    count = sum(table.shape)
    candidates: list[list[set[int]]] = [[] for _ in range(count)]
    for start in range(count):
        for sign in (1, -1):
            units = {start}
            candidates[0].append(set(units))
            while len(units) < count:
                rest = [unit for unit in range(count) if unit not in units]
                units = units | {max(rest, key=lambda unit: sign * value(table, units | {unit}))}
                candidates[len(units) - 1].append(set(units))
    return [
        {
            True: max(sets, key=lambda units: value(table, units)),
            False: min(sets, key=lambda units: value(table, units)),
        }
        for sets in candidates
    ]


def area_by_hand(table: np.ndarray) -> float:
    """Return the area of the authors, from sets and the modules of the model."""
    curves = []
    for largest in (True, False):
        kept = np.zeros((sum(table.shape) + 1, sum(table.shape)))
        for row, sets in enumerate(reversed(greedy(table))):
            kept[row, list(sets[largest])] = 1
        masks = torch.from_numpy(kept).float()
        image, text = embeddings_by_hand(masks[:, : table.shape[1]], masks[:, table.shape[1] :])
        scores = (100 * (image * text).sum(1)).double().numpy()  # logits: the scale does not matter
        scores = (scores - scores[-1]) / (scores[0] - scores[-1])
        grid = np.linspace(0, 1, 51)
        curves.append(np.interp(grid, np.arange(len(scores)) / (len(scores) - 1), scores))
    return float(np.trapezoid(curves[0], dx=0.02) - np.trapezoid(curves[1], dx=0.02))


@pytest.mark.slow
def test_areas_equal_the_formulas_of_the_authors(record_property: Record) -> None:
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal((4, 16)) for _ in range(3)]
    actual = [number(PairArea(), input_of(known(table.tolist()))) for table in tables]
    assert_error_below(2e-4, actual, [area_by_hand(table) for table in tables], record_property)


@pytest.mark.parametrize("seed", range(4))
def test_small_sets_are_those_of_all_sets(seed: int) -> None:
    """The greedy search is exact for pairs, and for all but one unit; elsewhere it finds at most the true extremes."""
    table = np.random.default_rng(seed).standard_normal((3, 5))
    extremes = extreme_sets(table)
    for size in range(1, 8):
        every = [value(table, set(units)) for units in combinations(range(8), size)]
        largest, smallest = (value(table, set(np.flatnonzero(sets[8 - size]))) for sets in extremes)
        assert extremes[0][8 - size].sum() == extremes[1][8 - size].sum() == size
        assert min(every) - 1e-12 <= smallest <= largest <= max(every) + 1e-12
        if size == 2:
            assert (smallest, largest) == pytest.approx((min(every), max(every)))
    assert all(sets[0].all() and not sets[-1].any() for sets in extremes)


def test_the_area_is_that_of_the_curve_and_changes_its_sign_with_the_table() -> None:
    table, _, _ = tiny_table(budget=300)
    metric_input = input_of(table)
    area, curve = PairArea().measured(metric_input)
    assert curve.shape == (1, 51)
    assert float(torch.trapezoid(curve) / 50) == pytest.approx(float(area))
    assert curve[0, 0] == curve[0, -1] == 0
    assert abs(float(area)) > 0.1
    turned = input_of(known((-table.table.flatten(1)).tolist()))
    assert number(PairArea(), turned) == pytest.approx(-float(area), abs=1e-4)


def test_a_table_of_zeros_has_no_area() -> None:
    assert number(PairArea(), input_of(known([[]]))) == 0
