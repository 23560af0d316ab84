"""Tests of ``nibt.metrics._perturbation``: curves of linear scores, which are known at each level."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.metrics._perturbation import ranks
from nibt.metrics.base import MetricInput
from nibt.metrics.faithfulness import Deletion, Insertion
from nibt.results.attribution import Attribution
from tests import linear
from tests.metrics.linear_maps import exact

both_curves = pytest.mark.parametrize(("kind", "inserted"), [(Deletion, False), (Insertion, True)])


def curve_by_hand(of: Side, order: list[list[int]], counts: list[list[int]], inserted: bool) -> Tensor:
    """Return the score of each item after the first units of its order are removed or inserted."""
    parts = linear.parts(of)
    nothing = of.value() - parts.sum(-1)  # the share of the start token
    rows = []
    for item, units in enumerate(order):
        shown = [units[:count] if inserted else units[count:] for count in counts[item]]
        rows.append(torch.stack([nothing[item] + parts[item, units].sum() for units in shown]))
    return torch.stack(rows)


@both_curves
@pytest.mark.parametrize(
    ("levels", "counts"), [(1, [0, 6]), (3, [0, 2, 4, 6]), (4, [0, 2, 3, 4, 6]), (6, [0, 1, 2, 3, 4, 5, 6])]
)
def test_curve_of_an_image_changes_equal_shares(kind: type, inserted: bool, levels: int, counts: list[int]) -> None:
    """Of six units; halves are rounded to even numbers."""
    of = linear.image_side()
    order = [[3, 0, 5, 1, 4, 2], [2, 1, 0, 5, 4, 3]]
    scores = torch.zeros(2, 6)
    for item, units in enumerate(order):
        scores[item, units] = torch.arange(3.0, -3, -1)
    area, curve = kind(levels=levels).measured(MetricInput(of, replace(exact(of), scores=scores)))
    wanted = curve_by_hand(of, order, [counts, counts], inserted)
    torch.testing.assert_close(curve, wanted, rtol=1e-4, atol=1e-4)
    by_hand = ((wanted[:, 1:] + wanted[:, :-1]) / 2).mean(-1)
    torch.testing.assert_close(area, by_hand, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(kind(levels=levels)(MetricInput(of, replace(exact(of), scores=scores))), area)


@both_curves
def test_curve_of_a_caption_counts_its_own_words(kind: type, inserted: bool) -> None:
    """Special tokens stay, whatever their scores are."""
    of = linear.text_side(((3, 1, 4, 2), (2, 6)))
    scores = torch.tensor([[9.0, -4, -1, -3, -2], [9, -2, -1, 8, 8]])
    _, curve = kind(levels=4).measured(MetricInput(of, replace(exact(of), scores=scores)))
    wanted = curve_by_hand(of, [[2, 4, 3, 1], [2, 1]], [[0, 1, 2, 3, 4], [0, 0, 1, 2, 2]], inserted)
    torch.testing.assert_close(curve, wanted, rtol=1e-4, atol=1e-4)


@both_curves
def test_curve_of_equal_scores_takes_units_in_their_order(kind: type, inserted: bool) -> None:
    of = linear.image_side()
    _, curve = kind(levels=6).measured(MetricInput(of, replace(exact(of), scores=torch.ones(2, 6))))
    wanted = curve_by_hand(of, [list(range(6))] * 2, [list(range(7))] * 2, inserted)
    torch.testing.assert_close(curve, wanted, rtol=1e-4, atol=1e-4)


def test_ranks_of_many_equal_scores_are_in_their_order() -> None:
    """An unstable sort keeps the order of a few equal scores, but not of many."""
    scores = torch.randint(0, 3, (2, 196), generator=torch.Generator().manual_seed(0)).float()
    attribution = Attribution(scores, Grid(14, 14), torch.zeros(2))
    order, counts = ranks(MetricInput(linear.image_side(), attribution))
    assert counts.tolist() == [196, 196]
    for row, values in zip(order.tolist(), scores.tolist(), strict=True):
        order = sorted(range(196), key=lambda unit, values=values: -values[unit])  # which is stable
        assert [row[unit] for unit in order] == list(range(196))
