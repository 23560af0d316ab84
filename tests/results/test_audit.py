"""Tests of ``nibt.results.audit``."""

import pytest

from nibt.report.certificate import threshold
from nibt.report.html.audit import gauge
from nibt.results.audit import Check


@pytest.mark.parametrize(
    ("value", "low", "high", "better", "verdict"),
    [
        (0.3, 0.1, 0.5, "lower", "pass"),
        (0.3, 0.1, 0.8, "lower", "warn"),
        (0.5, 0.4, 0.6, "lower", "warn"),
        (0.7, 0.6, 0.8, "lower", "fail"),
        (0.8, 0.71, 0.9, "higher", "pass"),
        (0.3, 0.2, 0.5, "higher", "fail"),
    ],
)
def test_check_verdict_depends_on_thresholds_and_interval(
    value: float, low: float, high: float, better: str, verdict: str
) -> None:
    passes, fails = (0.4, 0.7) if better == "lower" else (0.7, 0.4)
    check = Check("x", 1, "nib", "image", value, low, high, 8, better, passes, fails, "x")  # pyright: ignore
    assert check.verdict == verdict
    assert gauge(check).startswith("<svg")
    assert "0.4" in threshold(check)
