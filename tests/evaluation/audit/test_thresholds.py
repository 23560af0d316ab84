"""Tests of ``nibt.evaluation.audit.thresholds``."""

from nibt.evaluation.audit.thresholds import BOUNDS


def test_thresholds_are_ordered() -> None:
    for name, bound in BOUNDS.items():
        assert (bound.passes > bound.fails) if bound.better == "higher" else (bound.passes < bound.fails), name
