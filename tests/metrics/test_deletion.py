"""Tests of ``nibt.metrics.faithfulness``."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from nibt.core.side import Side
from nibt.metrics.base import MetricInput
from nibt.metrics.faithfulness import Deletion, Infidelity, Insertion
from nibt.registry import find
from nibt.results.attribution import Attribution
from tests import tiny
from tests.helpers import make_side
from tests.metrics.linear_maps import long_sides, ordered


@pytest.mark.parametrize("modality", ["image", "text"])
def test_deletion_and_insertion_are_mirrored(modality: str) -> None:
    """Deletion from the highest score equals insertion from the lowest one, in reverse."""
    here = make_side(tiny.model("clip"), modality)
    cut = here.cut(0)
    rows = torch.rand(cut.hidden.shape[:2], generator=torch.Generator().manual_seed(1))
    up = Attribution(cut.units.keep(rows), cut.units, torch.zeros(2))
    down = replace(up, scores=cut.units.keep(1 - rows))
    count = 16 if modality == "image" else 2 * 3 * 5
    removed = find("metrics", "deletion")(levels=count)(MetricInput(here, up))
    put_in = find("metrics", "insertion")(levels=count)(MetricInput(here, down))
    torch.testing.assert_close(removed, put_in, atol=1e-5, rtol=1e-4)


@long_sides
@pytest.mark.parametrize(("metric", "sign"), [(Deletion(), 1), (Insertion(), -1), (Infidelity(), 1)])
def test_removal_metrics_rank_a_perfect_map_first(of: Side, metric: Any, sign: int) -> None:
    best, even, worst = (sign * actual for actual in ordered(of, metric))
    assert (best < even).all()
    assert (even < worst).all()
