"""From the rows of a run to the lines of its tables: one for each model, data set, target, side, metric and method."""

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


class Group(NamedTuple):
    """What a table is of."""

    model: str
    data: str
    target: str


class Series(NamedTuple):
    """What a line is of."""

    group: Group
    side: str
    metric: str
    method: str


@dataclass(frozen=True)
class Line:
    """A mean with its interval over ``count`` pairs.

    ``failed`` pairs had an error. ``p`` is of the difference from the base, after Holm's correction over the methods of
    the group, side and metric; ``won`` the share of pairs on which the method is better than the base. ``seconds``:
    what an explanation of this side took, in the mean.
    """

    of: Series
    better: Better
    mean: Interval
    count: int
    failed: int
    seconds: float
    p: float = math.nan
    won: float = math.nan


@dataclass(frozen=True)
class Summary:
    """The numbers of a run by series and pair; over several seeds a pair has the mean of them.

    ``curves``: what the numbers are the areas under, the mean over pairs, where there is such a thing.
    """

    plan: Plan
    values: Mapping[Series, Mapping[int, float]]
    times: Mapping[tuple[Group, str, str], Mapping[int, float]]
    failures: Sequence[tuple[Series, int, str]]
    curves: Mapping[Series, np.ndarray]

    @classmethod
    def of(cls, plan: Plan, table: Any) -> "Summary":
        """Read a run's table once."""
        columns = {
            name: table[name].to_pylist()
            for name in (
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
        }
        values: dict[Series, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        times: dict[tuple[Group, str, str], dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        failures: list[tuple[Series, int, str]] = []
        curves: dict[Series, list[list[float]]] = defaultdict(list)
        for model, data, target, side, metric, method, item, value, seconds, seed, error, curve in zip(
            *columns.values(), strict=True
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
            {series: {item: _mean(found) for item, found in items.items()} for series, items in values.items()},
            {key: {item: _mean(found.values()) for item, found in items.items()} for key, items in times.items()},
            failures,
            {series: np.mean(found, axis=0) for series, found in curves.items()},
        )

    @cached_property
    def base(self) -> str | None:
        """The method that others are held against: NIB's default or, where the plan lacks it, its first NIB."""
        labels = [one.label for one in self.plan.methods if one.name == BASE]
        return BASE if BASE in labels else next(iter(labels), None)

    @cached_property
    def groups(self) -> list[Group]:
        return list(dict.fromkeys(series.group for series in self.values))

    @cached_property
    def lines(self) -> list[Line]:
        """In the order of the plan: groups, sides, metrics, methods."""
        methods = {one.label: place for place, one in enumerate(self.plan.methods)}
        metrics = {one.label: place for place, one in enumerate(self.plan.metrics)}
        groups = {group: place for place, group in enumerate(self.groups)}
        families: dict[tuple[Group, str, str], list[Series]] = defaultdict(list)
        for series in sorted(
            self.values, key=lambda one: (groups[one.group], one.side, metrics[one.metric], methods[one.method])
        ):
            families[series.group, series.side, series.metric].append(series)
        return [line for family in families.values() for line in self._compared(family)]

    def pairs(self, one: Series, other: Series) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of two series on the pairs that both have."""
        common = [item for item in self.values[one] if item in self.values[other]]
        return (
            np.array([self.values[one][item] for item in common], float),
            np.array([self.values[other][item] for item in common], float),
        )

    def spent(self, group: Group, method: str, sides: Sequence[str]) -> dict[int, float]:
        """The seconds that each pair took on these sides together."""
        found = [self.times.get((group, side, method), {}) for side in sides]
        return {item: sum(one[item] for one in found) for item in found[0] if all(item in one for one in found)}

    def _compared(self, family: list[Series]) -> list[Line]:
        """The lines of all methods of a group, side and metric, held against the base."""
        lines = [self._line(series) for series in family]
        base = next((one for one in family if one.method == self.base), None)
        if base is None:
            return lines
        others = [place for place, line in enumerate(lines) if line.of != base]
        compared = {place: self.pairs(family[place], base) for place in others}
        for place, p in zip(others, holm([paired_test(*compared[place]) for place in others]), strict=True):
            lines[place] = replace(lines[place], p=p, won=win_rate(*compared[place], lines[place].better))
        return lines

    def _line(self, series: Series) -> Line:
        found = np.array(list(self.values[series].values()), float)
        times = list(self.times.get((series.group, series.side, series.method), {}).values())
        return Line(
            series,
            self._better(series.metric),
            interval(found),
            int((~np.isnan(found)).sum()),
            self._failed.get(series, 0),
            _mean(times),
        )

    @cached_property
    def _failed(self) -> dict[Series, int]:
        items: dict[Series, set[int]] = defaultdict(set)
        for series, item, _ in self.failures:
            items[series].add(item)
        return {series: len(found) for series, found in items.items()}

    def _better(self, label: str) -> Better:
        return find("metrics", next(one.name for one in self.plan.metrics if one.label == label)).better


def _mean(values: Iterable[float]) -> float:
    """The mean of what was measured; NaN where nothing was."""
    found = [value for value in values if not math.isnan(value)]
    return sum(found) / len(found) if found else math.nan
