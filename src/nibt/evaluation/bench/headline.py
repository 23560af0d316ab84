"""The headline of the paper recomputed: what NIB gains over M2IB, in the mean over data sets (Zhu et al., ICLR 2025).

    (M2IB - NIB) / M2IB for confidence drop,  (NIB - M2IB) / NIB for confidence increase and explanations a second

The published recipe changes its denominator; with M2IB's throughout, the same figures are others. Both are told. The
interval resamples the pairs of each data set, the same pairs for both methods (percentile bootstrap).
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np

from nibt.evaluation.bench.summary import Group, Series, Summary
from nibt.evaluation.statistics import Interval, resampled

DROP, INCREASE, FPS = "confidence_drop", "confidence_increase", "fps"
OTHER = "m2ib"
Figures: TypeAlias = Mapping[tuple[str, str, str, str], float]
"""By data set, method, side (both for FPS) and metric."""
_Pairs: TypeAlias = tuple[str, np.ndarray, np.ndarray]
"""A metric, and its numbers for NIB and for M2IB on the same pairs."""


@dataclass(frozen=True)
class Headline:
    """A gain by the published recipe and with M2IB as the denominator throughout, as shares with their intervals."""

    model: str
    target: str
    nib: str
    what: str
    sets: tuple[str, ...]
    gain: Interval
    of_other: Interval


def published() -> Figures:
    """The table of the paper: ViT-B/32, layer 9, 10 steps. Drops are lower where better, the others higher."""
    text = (files("nibt.evaluation.bench") / "published.csv").read_text(encoding="utf-8")
    return {
        (row["data"], row["method"], row["side"], row["metric"]): float(row["value"])
        for row in csv.DictReader(text.splitlines())
    }


def gain(metric: str, nib: Any, other: Any, of_other: bool = False) -> Any:
    """What NIB gains, as a share; numbers or arrays of them.

    >>> gain("confidence_drop", 1.0, 2.0), gain("fps", 2.0, 1.0), gain("fps", 2.0, 1.0, of_other=True)
    (np.float64(0.5), np.float64(0.5), np.float64(1.0))

    """
    better = other - nib if metric == DROP else nib - other
    base = other if of_other or metric == DROP else nib
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(nib, other), 0.0, np.divide(better, base))[()]  # 0 of 0 is no gain


def published_gains(of_other: bool = False) -> dict[str, float]:
    """The published headline, from the published table.

    >>> {what: round(100 * share, 2) for what, share in published_gains().items()}
    {'image': 9.0, 'text': 58.83, 'speed': 63.95}

    """
    told = published()
    sets = dict.fromkeys(data for data, *_ in told)
    what = {
        "image": [("image", DROP), ("image", INCREASE)],
        "text": [("text", DROP), ("text", INCREASE)],
        "speed": [("both", FPS)],
    }
    return {
        name: float(
            np.mean(
                [
                    gain(metric, told[data, "nib", side, metric], told[data, OTHER, side, metric], of_other)
                    for data in sets
                    for side, metric in asked
                ]
            )
        )
        for name, asked in what.items()
    }


def headlines(summary: Summary) -> list[Headline]:
    """The gains of each NIB of the plan over its M2IB, by model, target and protocol; none where the plan lacks one."""
    nibs = [one.label for one in summary.plan.methods if one.name == "nib"]
    other = next((one.label for one in summary.plan.methods if one.name == OTHER), None)
    if other is None:
        return []
    found = []
    for model, target in dict.fromkeys((group.model, group.target) for group in summary.groups):
        groups = [group for group in summary.groups if (group.model, group.target) == (model, target)]
        for nib in nibs:
            for what, sets in _questions(summary, groups, nib, other):
                names = tuple(group.data for group, _ in sets)
                told = [pairs for _, pairs in sets]
                found.append(Headline(model, target, nib, what, names, _over(told), _over(told, of_other=True)))
    return found


def _questions(
    summary: Summary, groups: Sequence[Group], nib: str, other: str
) -> Iterator[tuple[str, list[tuple[Group, list[_Pairs]]]]]:
    """What gains are of, with the numbers of each data set that has them."""
    by_options: dict[str, dict[str, str]] = {}
    for one in summary.plan.metrics:
        if one.name in (DROP, INCREASE):
            by_options.setdefault(one.label.removeprefix(one.name).strip(), {})[one.name] = one.label
    for side in summary.plan.sides:
        for options, labels in by_options.items():
            if len(labels) == 2:
                sets = [
                    (
                        group,
                        _common(
                            {
                                (name, method): summary.values.get(Series(group, side, label, method), {})
                                for name, label in labels.items()
                                for method in (nib, other)
                            },
                            nib,
                            other,
                        ),
                    )
                    for group in groups
                ]
                if any(pairs for _, pairs in sets):
                    yield f"{side} {options}".strip(), [(group, pairs) for group, pairs in sets if pairs]
    timed = [
        (
            group,
            _common(
                {(FPS, method): summary.spent(group, method, summary.plan.sides) for method in (nib, other)}, nib, other
            ),
        )
        for group in groups
    ]
    if any(pairs for _, pairs in timed):
        yield "speed", [(group, pairs) for group, pairs in timed if pairs]


def _common(found: Mapping[tuple[str, str], Mapping[int, float]], nib: str, other: str) -> list[_Pairs]:
    """The numbers of the pairs that all of it was measured on; nothing where there is no such pair."""
    items = [
        item
        for item in next(iter(found.values()))
        if all(not math.isnan(one.get(item, math.nan)) for one in found.values())
    ]
    if not items:
        return []
    numbers = {key: np.array([one[item] for item in items], float) for key, one in found.items()}
    return [(metric, numbers[metric, nib], numbers[metric, other]) for metric in dict.fromkeys(key for key, _ in found)]


def _over(sets: Sequence[Sequence[_Pairs]], of_other: bool = False) -> Interval:
    """The mean gain over the data sets and their metrics."""

    def statistic(*indices: Any, axis: int = -1) -> Any:
        gains = []
        for pairs, places in zip(sets, indices, strict=True):
            for metric, ours, theirs in pairs:
                means = [_mean(metric, values[places.astype(int)], axis) for values in (ours, theirs)]
                gains.append(gain(metric, means[0], means[1], of_other))
        return np.mean(gains, axis=0)

    places = [np.arange(len(pairs[0][1])) for pairs in sets]
    if any(len(one) < 2 for one in places):
        value = float(statistic(*places))
        return Interval(value, math.nan, math.nan)
    return resampled(places, statistic)


def _mean(metric: str, values: np.ndarray, axis: int) -> Any:
    """The mean over pairs; of seconds, the explanations a second."""
    return 1 / values.mean(axis) if metric == FPS else values.mean(axis)
