"""Tests of ``nibt.metrics.rankings``."""

import numpy as np
import pytest
import torch

from nibt.metrics.rankings import RelevanceRank
from tests.metrics.known_maps import FIRST, LAST, QUARTER, of, on


def test_relevance_rank_of_known_maps() -> None:
    assert of("relevance_rank", on(FIRST)) == 1
    assert of("relevance_rank", on(LAST)) == 0
    assert of("relevance_rank", on(torch.ones(4, 4))) == pytest.approx(0.25), "a flat map has the share of the object"


def test_relevance_rank_is_the_mean_over_orders_of_equal_scores() -> None:
    random = np.random.default_rng(0)
    scores = torch.from_numpy(random.integers(0, 3, (6, 6)).astype(np.float32))
    mask = torch.from_numpy(random.random((6, 6)) < 0.4)
    count = int(mask.sum())
    values = []
    for _ in range(4000):
        order = np.lexsort((random.random(36), -scores.flatten().numpy()))
        values.append(mask.flatten().numpy()[order[:count]].mean())
    assert RelevanceRank().number(scores, mask) == pytest.approx(
        np.mean(values), abs=4 * np.std(values) / np.sqrt(4000) + 1e-9
    )


def test_relevance_rank_depends_on_the_order_only() -> None:
    scores = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    assert RelevanceRank().number(scores, QUARTER) == RelevanceRank().number(scores.exp(), QUARTER)
    best = scores.flatten().topk(16).indices
    assert RelevanceRank().number(scores, QUARTER) == pytest.approx(float(QUARTER.flatten()[best].float().mean()))
    assert np.isnan(RelevanceRank().number(scores, torch.zeros(8, 8, dtype=torch.bool)))
