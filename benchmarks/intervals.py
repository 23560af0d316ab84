"""How often the 95 % intervals of pooled metrics contain the number of a large data set, by simulation.

The measurements of pairs are drawn at random. For each metric and number of pairs: the value of a large data set, the
mean of the samples, and of the intervals by the jackknife, by BCa and by percentiles of a bootstrap the share that
contains the value, and the share that is above it.
"""

import argparse

import numpy as np
from scipy import stats

from nibt.evaluation.statistics import jackknife
from nibt.metrics.segmentation import LabelIoU, LabelPrecision, MeanIoU

LABELS, PIXELS, RESAMPLES = 5, 50_000, 500


def precision_rows(random, count):
    """Scores of labels that 30 % of the images have, which raises the score by one standard deviation."""
    has = (random.random((count, LABELS)) < 0.3).astype(float)
    return np.concatenate([random.standard_normal(has.shape) + has, has], 1)


def iou_rows(random, count):
    """Pixels of labels that 40 % of the images have: intersections and unions."""
    union = np.floor(random.lognormal(6, 1, (count, LABELS))) * (random.random((count, LABELS)) < 0.4)
    return np.concatenate([np.floor(union * random.beta(3, 2, union.shape)), union], 1)


def object_rows(random, count):
    """Pixels that the map and the object have both, only one of them, and none."""
    share, hits, alarms = random.beta(1.5, 4, count), random.beta(4, 2, count), 0.3 * random.beta(2, 4, count)
    both, missed, wrong = share * hits, share * (1 - hits), (1 - share) * alarms
    return np.floor(PIXELS * np.stack([both, wrong, missed, 1 - both - missed - wrong], 1))


def bootstrap_ends(rows, metric, random):
    """The ends of the intervals by BCa (Efron, 1987) and by percentiles."""
    count = len(rows)
    value = metric.pooled(rows)
    drawn = metric.weighted(rows, random.multinomial(count, np.full(count, 1 / count), RESAMPLES))
    drawn = drawn[~np.isnan(drawn)]
    left_out = metric.weighted(rows, 1 - np.eye(count, dtype=int))
    deviations = np.nanmean(left_out) - left_out[~np.isnan(left_out)]
    skew = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5 or 1)
    below = np.clip(((drawn < value).mean() + (drawn <= value).mean()) / 2, 1 / len(drawn), 1 - 1 / len(drawn))
    shifts = stats.norm.ppf(below) + stats.norm.ppf([0.025, 0.975])
    shares = stats.norm.cdf(stats.norm.ppf(below) + shifts / (1 - skew * shifts))
    return np.percentile(drawn, 100 * shares), np.percentile(drawn, [2.5, 97.5])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    samples = parser.parse_args().samples
    metrics = [(LabelPrecision(), precision_rows), (LabelIoU(), iou_rows), (MeanIoU(), object_rows)]
    print("| metric | pairs | value | mean | jackknife | BCa | percentiles |\n|---|---|---|---|---|---|---|")
    for metric, draw in metrics:
        random = np.random.default_rng(0)
        truth = np.mean([metric.pooled(draw(random, 4000)) for _ in range(25)])
        for count in (10, 25, 50, 100):
            values, ends = [], []
            for _ in range(samples):
                rows = draw(random, count)
                value, *by_jackknife = jackknife(rows, metric.weighted, metric.bounds)
                values.append(value)
                ends.append([by_jackknife, *bootstrap_ends(rows, metric, random)])
            low, high = np.moveaxis(np.array(ends), -1, 0)
            inside, above = ((low <= truth) & (truth <= high)).mean(0), (low > truth).mean(0)
            cells = [f"{share:.2f} ({over:.2f})" for share, over in zip(inside, above, strict=True)]
            print(
                f"| {metric.name} | {count} | {truth:.2f} | {np.mean(values):.2f} | {' | '.join(cells)} |", flush=True
            )


if __name__ == "__main__":
    main()
