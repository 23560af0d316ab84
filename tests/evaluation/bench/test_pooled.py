"""Benchmarks of metrics whose number is not the mean over pairs, and plans that repeat a published evaluation."""

from pathlib import Path

import numpy as np
import pytest

import nibt
from nibt.evaluation.bench.report import write_report
from nibt.evaluation.statistics import resampled_rows
from nibt.metrics.segmentation import MeanIoU, PixelAccuracy
from tests.evaluation.bench.plans import BASE

PUBLISHED = [{"data": "scenes", "method": "nib", "metric": "mean_iou", "value": 0.5866, "source": "Table 1, ViT-B/16"}]
STEPS = [
    {"step": "Threshold", "authors": "the mean of the map", "source": "some/where: eval.py"},
    {"step": "Images", "authors": "no crop", "source": "section 4", "here": "a crop"},
]


@pytest.mark.slow
def test_the_number_of_a_run_is_computed_from_all_pairs(tmp_path: Path) -> None:
    plan = {**BASE, "sides": ["image"], "metrics": ["mean_iou", "pixel_accuracy", "deletion"], "batch_size": 4}
    plan |= {"methods": ["nib", "random"], "seeds": [0, 1], "published_values": PUBLISHED, "protocol": STEPS}
    run = nibt.benchmark(plan, tmp_path / "RUN")
    frame, lines = run.frame(), run.summary().lines.set_index(["metric", "method"])
    for metric in (MeanIoU(), PixelAccuracy()):
        of_nib = frame[(frame["metric"] == metric.name) & (frame["method"] == "nib")]
        rows = np.array(of_nib["curve"].tolist())
        line = lines.loc[metric.name, "nib"]
        assert line["mean"] == pytest.approx(metric.pooled(rows), abs=1e-12)
        assert line["low"] <= line["mean"] <= line["high"]
        assert line["pairs"] == 6
        if metric.name == "mean_iou":  # with images of one size, accuracy is also a mean over images
            assert of_nib["value"].mean() != pytest.approx(line["mean"], abs=1e-6)
    of_random = frame[(frame["metric"] == "mean_iou") & (frame["method"] == "random")]
    means = of_random.groupby("item")["curve"].agg(lambda curves: np.mean(curves.tolist(), axis=0))
    assert lines.loc["mean_iou", "random"]["mean"] == pytest.approx(MeanIoU().pooled(np.stack(means.tolist())))
    assert {series[4] for series in run.summary().curves} == {"deletion"}, "counts are no curves"
    report = write_report(run)
    assert "## Published numbers" in report
    assert "| scenes | nib | mean_iou | 0.587 |" in report
    assert "| Threshold | the mean of the map | some/where: eval.py | the same |" in report
    again = nibt.benchmark(plan, tmp_path / "RUN")
    assert again.plan.protocol == run.plan.protocol


def ratio_of_sums(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    sums = weights @ rows
    return sums[:, 0] / sums[:, 1]


def test_the_interval_resamples_pairs() -> None:
    rows = np.random.default_rng(0).random((50, 2))
    estimate = resampled_rows(rows, ratio_of_sums)
    assert estimate.mean == pytest.approx(rows[:, 0].sum() / rows[:, 1].sum())
    draws = np.random.default_rng(1).integers(0, 50, (4000, 50))
    values = [rows[draw, 0].sum() / rows[draw, 1].sum() for draw in draws]
    assert (estimate.low, estimate.high) == pytest.approx(np.percentile(values, (2.5, 97.5)), abs=0.02)
    assert np.isnan(resampled_rows(rows[:1], ratio_of_sums).low)
    first_only = resampled_rows(rows[:2], lambda _, weights: np.where(weights[:, 0] > 0, 1.0, np.nan))
    assert tuple(first_only) == (1, 1, 1), "resamples without a value are left out"
    assert np.isnan(resampled_rows(rows[:2], lambda _, weights: np.full(len(weights), np.nan)).low)
    assert not resampled_rows(rows[:0], ratio_of_sums).is_known
