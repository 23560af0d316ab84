"""Tests of ``nibt.evaluation.audit.checks``."""

from nibt.evaluation.audit.checks import BOUNDS
from nibt.evaluation.statistics import interval


def test_thresholds_are_ordered() -> None:
    for name, bound in BOUNDS.items():
        assert (bound.passes > bound.fails) if bound.better == "higher" else (bound.passes < bound.fails), name


def test_intervals_end_where_values_cannot_be() -> None:
    """Student's interval of a few areas near 1 reaches beyond 1."""
    mean = interval([1.0, 1.0, 0.9, 1.0])
    assert mean.high > 1
    check = BOUNDS["auc"].check("auc", "", "", mean, 4)
    assert (check.value, check.low, check.high) == (mean.mean, mean.low, 1.0)
    check = BOUNDS["faithful"].check("faithful", "nib", "image", mean, 4)
    assert check.high == mean.high, "an improvement has no bound"
