"""Tests of ``nibt.evaluation.audit.thresholds``."""

import pytest

from nibt.evaluation.audit.thresholds import BOUNDS

pytest.importorskip("scipy", reason="an audit ranks with scipy")


pytest.importorskip("skimage", reason="an audit compares maps with scikit-image")


def test_thresholds_are_ordered() -> None:
    for name, bound in BOUNDS.items():
        assert (bound.passes > bound.fails) if bound.better == "higher" else (bound.passes < bound.fails), name
