"""Summarize the rows of a run: a line for each model, data set, target, side, metric and method."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.statistics import Better, Interval, holm, interval, paired_test, win_rate
from nibt.registry import find

BASE = "nib"
_COLUMNS = (
    "model",
    "data",
    "target",
    "side",
    "metric_label",
    "method_label",
    "item",
    "value",
    "seconds",
    "seed",
    "error",
    "curve",
)


class Group(NamedTuple):
    """What the rows of a table have in common."""

    model: str
    data: str
    target: str


class Series(NamedTuple):
    """A method on a side of a group, by one metric."""

    group: Group
    side: str
    metric: str
    method: str


@dataclass(frozen=True)
class Line:
    """The mean of a series with its interval.

    Attributes:
        series: The series.
        better: Which values of the metric are better.
        mean: The mean over pairs with its interval.
        count: The number of pairs with a value.
        failed: The number of pairs with an error.
        seconds: The mean time to explain this side of a pair.
        p: The p value of the difference from the base method, after Holm's correction over the methods of the group,
            side and metric; NaN for the base method.
        win_rate: The share of pairs on which the method is better than the base method; a tie is half a win.

    """

    series: Series
    better: Better
    mean: Interval
    count: int
    failed: int
    seconds: float
    p: float = math.nan
    win_rate: float = math.nan


@dataclass(frozen=True)
class Summary:
    """The values of a run by series and pair.

    Attributes:
        plan: The plan of the run.
        values: The value of each pair by series, averaged over seeds.
        times: The seconds of each pair by group, side and method, averaged over seeds.
        failures: The series, pair and message of each error.
        curves: The mean curve over pairs, for metrics that are the area under a curve.

    """

    plan: Plan
    values: Mapping[Series, Mapping[int, float]]
    times: Mapping[tuple[Group, str, str], Mapping[int, float]]
    failures: Sequence[tuple[Series, int, str]]
    curves: Mapping[Series, np.ndarray]

    @classmethod
    def of(cls, plan: Plan, table: Any) -> "Summary":
        """Summarize the table of a run."""
        values: dict[Series, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        times: dict[tuple[Group, str, str], dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        failures: list[tuple[Series, int, str]] = []
        curves: dict[Series, list[list[float]]] = defaultdict(list)
        for model, data, target, side, metric, method, item, value, seconds, seed, error, curve in zip(
            *(table[name].to_pylist() for name in _COLUMNS), strict=True
        ):
            group = Group(model, data, target)
            series = Series(group, side, metric, method)
            values[series][item].append(value)
            if curve:
                curves[series].append(curve)
            if error:
                failures.append((series, item, error))
            elif not math.isnan(seconds):
                times[group, side, method][item].setdefault(seed, seconds)
        return cls(
            plan,
            {
                series: {item: _mean(of_seeds) for item, of_seeds in by_item.items()}
                for series, by_item in values.items()
            },
            {
                key: {item: _mean(of_seeds.values()) for item, of_seeds in by_item.items()}
                for key, by_item in times.items()
            },
            failures,
            {series: np.mean(of_pairs, axis=0) for series, of_pairs in curves.items()},
        )

    @cached_property
    def base(self) -> str | None:
        """The method that the others are compared with: NIB's default or, if the plan lacks it, its first NIB."""
        labels = [method.label for method in self.plan.methods if method.name == BASE]
        return BASE if BASE in labels else next(iter(labels), None)

    @cached_property
    def groups(self) -> list[Group]:
        """The groups in the order of the table."""
        return list(dict.fromkeys(series.group for series in self.values))

    @cached_property
    def lines(self) -> list[Line]:
        """The lines in the order of the plan: by group, side, metric and method."""
        methods = {method.label: position for position, method in enumerate(self.plan.methods)}
        metrics = {metric.label: position for position, metric in enumerate(self.plan.metrics)}
        groups = {group: position for position, group in enumerate(self.groups)}
        families: dict[tuple[Group, str, str], list[Series]] = defaultdict(list)
        for series in sorted(
            self.values, key=lambda each: (groups[each.group], each.side, metrics[each.metric], methods[each.method])
        ):
            families[series.group, series.side, series.metric].append(series)
        return [line for family in families.values() for line in self._compared(family)]

    def pairs(self, series: Series, other: Series) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of two series on the pairs that both have."""
        common = [item for item in self.values[series] if item in self.values[other]]
        return (
            np.array([self.values[series][item] for item in common], float),
            np.array([self.values[other][item] for item in common], float),
        )

    def seconds_of(self, group: Group, method: str, sides: Sequence[str]) -> dict[int, float]:
        """Return the seconds of each pair, summed over the sides."""
        by_side = [self.times.get((group, side, method), {}) for side in sides]
        common = [item for item in by_side[0] if all(item in seconds for seconds in by_side)]
        return {item: sum(seconds[item] for seconds in by_side) for item in common}

    def _compared(self, family: list[Series]) -> list[Line]:
        """Return the lines of all methods of a group, side and metric, compared with the base method."""
        lines = [self._line(series) for series in family]
        base = next((series for series in family if series.method == self.base), None)
        if base is None:
            return lines
        others = [position for position, line in enumerate(lines) if line.series != base]
        paired = {position: self.pairs(family[position], base) for position in others}
        corrected = holm([paired_test(*paired[position]) for position in others])
        for position, p in zip(others, corrected, strict=True):
            line = lines[position]
            lines[position] = replace(line, p=p, win_rate=win_rate(*paired[position], line.better))
        return lines

    def _line(self, series: Series) -> Line:
        """Return the line of a series before it is compared."""
        values = np.array(list(self.values[series].values()), float)
        times = list(self.times.get((series.group, series.side, series.method), {}).values())
        return Line(
            series,
            self._better(series.metric),
            interval(values),
            int((~np.isnan(values)).sum()),
            self._failed.get(series, 0),
            _mean(times),
        )

    @cached_property
    def _failed(self) -> dict[Series, int]:
        """The number of pairs with an error, by series."""
        items: dict[Series, set[int]] = defaultdict(set)
        for series, item, _ in self.failures:
            items[series].add(item)
        return {series: len(failed) for series, failed in items.items()}

    def _better(self, label: str) -> Better:
        return find("metrics", next(metric.name for metric in self.plan.metrics if metric.label == label)).better


def _mean(values: Iterable[float]) -> float:
    """Return the mean without NaN; NaN if no value remains."""
    measured = [value for value in values if not math.isnan(value)]
    return sum(measured) / len(measured) if measured else math.nan
