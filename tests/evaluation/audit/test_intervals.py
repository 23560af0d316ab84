"""Tests of ``nibt.evaluation.audit.intervals``."""

from dataclasses import asdict

import pytest

from nibt.evaluation.audit.intervals import interval

pytest.importorskip("scipy", reason="an audit ranks with scipy")


pytest.importorskip("skimage", reason="an audit compares maps with scikit-image")


def test_interval_ignores_missing_values() -> None:
    actual = interval([1.0, 1.0, float("nan"), 1.0], 0)
    assert actual is not None
    assert asdict(actual) == {"mean": 1.0, "low": 1.0, "high": 1.0, "count": 3}
    assert interval([float("nan")], 0) is None
