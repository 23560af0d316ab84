"""Benchmarks of metrics whose number is not the mean over pairs, and plans that repeat a published evaluation."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest

import nibt
from nibt.evaluation.bench.report import write_report
from nibt.evaluation.statistics import interval, jackknife, student
from nibt.metrics.base import PooledMetric
from nibt.metrics.segmentation import LabelPrecision, MeanIoU, PixelAccuracy
from tests.evaluation.bench.plans import BASE
from tests.helpers import ROOT

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


def test_the_interval_of_a_mean_is_students() -> None:
    """The jackknife of a mean has its standard error, and without bounds its interval."""
    rows = np.random.default_rng(0).random((50, 1))
    estimate = jackknife(rows, lambda rows, weights: (weights @ rows)[:, 0] / weights.sum(1))
    assert tuple(estimate) == pytest.approx(tuple(student(rows[:, 0])))


def test_intervals_end_within_bounds_and_need_two_values() -> None:
    rows = np.random.default_rng(0).random((4, 2)) * [0.5, 1] + [0, 1]
    low, high = jackknife(rows, ratio_of_sums, (0.0, 1.0))[1:]
    assert 0 < low < high < 1
    certain = jackknife(np.ones((10, 2)), ratio_of_sums, (0.0, 1.0))
    assert tuple(certain) == pytest.approx(tuple(interval([1.0] * 10)), abs=0.01), "as of ten hits"
    assert np.isnan(jackknife(rows[:1], ratio_of_sums).low)
    first_only = jackknife(rows[:3], lambda _, weights: np.where(weights[:, 0] > 0, 1.0, np.nan), (0.0, 2.0))
    assert first_only.low < first_only.mean == 1 < first_only.high, "data sets without a value are left out"
    assert np.isnan(jackknife(rows[:2], lambda _, weights: np.full(len(weights), np.nan)).low)
    assert math.isnan(jackknife(rows[:0], ratio_of_sums).mean)


@pytest.mark.parametrize(("metric", "draw"), [(LabelPrecision(), "precision_rows"), (MeanIoU(), "object_rows")])
def test_intervals_of_few_pairs_contain_the_value_as_often_as_they_say(metric: PooledMetric, draw: str) -> None:
    """To 3 standard errors of 300 samples of 10 pairs; percentiles of a bootstrap are at 0.61 and 0.88."""
    rows_of = runpy.run_path(str(ROOT / "benchmarks" / "intervals.py"))[draw]
    random = np.random.default_rng(0)
    truth = np.mean([metric.pooled(rows_of(random, 4000)) for _ in range(5)])
    ends = [jackknife(rows_of(random, 10), metric.weighted, metric.bounds) for _ in range(300)]
    assert np.mean([end.low <= truth <= end.high for end in ends]) > 0.93 - 0.045
