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
    check = Check("x", 1, "nib", "image", value, low, high, 30, better, passes, fails, "x")  # pyright: ignore
    assert check.verdict == verdict
    assert gauge(check).startswith("<svg")
    assert "0.4" in threshold(check)


@pytest.mark.parametrize(
    ("value", "count", "least_pairs", "unclear", "verdict"),
    [
        pytest.param(0.9, 23, 24, "", "no verdict", id="fewer than 24 pairs"),
        pytest.param(0.5, 30, 34, "", "no verdict", id="too few to pass"),
        pytest.param(0.1, 30, 34, "", "pass", id="few, but its interval is far from the failing threshold"),
        pytest.param(0.9, 30, 34, "", "fail", id="too few to pass, but it fails"),
        pytest.param(0.1, 34, 34, "", "pass", id="enough to pass"),
        pytest.param(0.9, 34, 34, "an object there", "cannot tell", id="another cause"),
        pytest.param(0.1, 34, 34, "an object there", "pass", id="another cause of what does not fail"),
        pytest.param(0.1, 1, 1, "", "pass", id="one map"),
    ],
)
def test_verdict_depends_on_the_number_of_pairs_and_on_other_causes(
    value: float, count: int, least_pairs: int, unclear: str, verdict: str
) -> None:
    check = Check(
        name="x",
        question=9,
        method="nib",
        side="image",
        value=value,
        low=value,
        high=value,
        count=count,
        better="lower",
        passes=0.4,
        fails=0.7,
        about="x",
        least_pairs=least_pairs,
        unclear=unclear,
    )
    assert check.verdict == verdict
