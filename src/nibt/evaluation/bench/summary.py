"""Summaries of the rows of a run, and the headline of the paper: the gain of NIB over M2IB (Zhu et al., ICLR 2025).

A summary has a line for each model, data set, target, side, metric and method. The gain is averaged over data sets:
(M2IB - NIB) / M2IB for confidence drop, (NIB - M2IB) / NIB for confidence increase and explanations per second.

The published formulas have different denominators. The gains with M2IB as the denominator of all formulas are reported
as well. The intervals resample the pairs of each data set, the same pairs for both methods (percentile bootstrap).
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.bench.validation import build_metric
from nibt.evaluation.statistics import (
    NOTHING,
    Better,
    Interval,
    holm,
    interval,
    jackknife,
    paired_test,
    resampled,
    win_rate,
    within,
)
from nibt.io import read_text
from nibt.metrics.base import Metric, PooledMetric
from nibt.records import JsonObject
from nibt.results.frames import Column, DataFrame, pandas

BASE = "nib"
GROUP = ["model", "data", "target"]
FAMILY = [*GROUP, "side", "metric"]
"""The columns that identify the values that are compared between methods."""
SERIES = [*FAMILY, "method"]
"""The columns that identify the values of one method."""

LINE = [*SERIES, "better", *Interval._fields, "pairs", "failed", "p_holm", "win_rate", "seconds"]
"""The columns of a summary."""


class Group(NamedTuple):
    """What the tables of a report have in common."""

    model: str
    data: str
    target: str


@dataclass(frozen=True, eq=False)
class Summary:
    """The values of a run by pair, averaged over seeds, with the times, failures, curves and pooled numbers."""

    plan: Plan
    values: Mapping[Any, DataFrame]
    times: Mapping[Any, DataFrame]
    failures: DataFrame
    curves: Mapping[Any, np.ndarray]
    pooled: Mapping[Any, Interval]
    metrics: Mapping[str, Metric]

    @classmethod
    def of(cls, plan: Plan, rows: DataFrame) -> "Summary":
        """Summarize the rows of a run, as ``Benchmark.frame`` returns them."""
        rows = _in_order(plan, rows)
        values = rows.groupby([*SERIES, "item"], observed=True)["value"].mean()
        pair = [*GROUP, "side", "method", "item"]
        # each metric of a pair repeats the seconds of the explanation
        seconds = rows[rows["error"] == ""].groupby([*pair, "seed"], observed=True)["seconds"].first()
        curves = rows[rows["curve"].map(len) > 0].groupby(SERIES, observed=True)
        metrics = {choice.label: build_metric(choice) for choice in plan.metrics if choice.is_known}
        pooling = {label: metric for label, metric in metrics.items() if isinstance(metric, PooledMetric)}
        return cls(
            plan,
            _by_method(values, FAMILY),
            _by_method(seconds.groupby(pair, observed=True).mean(), [*GROUP, "side"]),
            rows.loc[rows["error"] != "", [*SERIES, "item", "error"]],
            {
                series: np.mean(of_pairs["curve"].tolist(), axis=0)
                for series, of_pairs in curves
                if series[4] not in pooling
            },
            {series: _pooled(pooling[series[4]], of_pairs) for series, of_pairs in curves if series[4] in pooling},
            metrics,
        )

    @cached_property
    def base(self) -> str | None:
        """The method that the others are compared with: NIB's default or, if the plan lacks it, its first NIB."""
        labels = [method.label for method in self.plan.methods if method.name == BASE]
        return BASE if BASE in labels else next(iter(labels), None)

    @cached_property
    def controls(self) -> set[str]:
        """The labels of the methods that do not use the model."""
        choices = (choice for choice in self.plan.methods if choice.is_known)
        return {choice.label for choice in choices if choice.plugin.category == "control"}

    @cached_property
    def groups(self) -> list[Group]:
        """The groups in the order of the plan."""
        return list(dict.fromkeys(Group(*family[:3]) for family in self.values))

    @cached_property
    def lines(self) -> DataFrame:
        """A line for each series, in the order of the plan.

        The columns of ``SERIES`` and:
        ``better``, which values of the metric are better: ``higher``, ``lower`` or ``neither``;
        ``mean``, ``low`` and ``high``, the mean over pairs, or the number of all pairs together, and its 95 %
        interval;
        ``pairs`` and ``failed``, the number of pairs with a value, and with an error;
        ``p_holm``, the p value of the difference from the base method, with Holm's correction over the methods of a
        family; NaN for the base method;
        ``win_rate``, the share of pairs on which the method is better than the base method, where a tie is half a win;
        ``seconds``, the mean time to explain this side of a pair.
        """
        lines = [line for family, values in self.values.items() for line in self._lines(family, values)]
        return pandas().DataFrame(lines, columns=LINE)

    def lines_of(self, group: Group, side: str) -> DataFrame:
        return self.lines[(self.lines[[*GROUP, "side"]] == [*group, side]).all(axis=1)]

    def seconds_of(self, group: Group, method: str, sides: Sequence[str]) -> Column:
        """Return the seconds of each pair that was explained on all the sides, summed over the sides."""
        by_side = [self.times[*group, side][method] for side in sides if method in self.times.get((*group, side), ())]
        if len(by_side) < len(sides):
            return pandas().Series(dtype=float)
        return pandas().concat(by_side, axis=1).sum(axis=1, skipna=False).dropna()

    def better(self, metric: str) -> Better:
        """Return which values of a metric are better, by its label."""
        return self.metrics[metric].better if metric in self.metrics else "neither"

    def _lines(self, family: tuple[str, ...], values: DataFrame) -> list[JsonObject]:
        """Return the lines of the methods of a family, compared with the base method."""
        better, bounds = self.better(family[-1]), self.metrics.get(family[-1], Metric).bounds
        failed = self.failures[(self.failures[FAMILY] == list(family)).all(axis=1)].groupby("method", observed=True)
        others = [method for method in values if self.base in values and method != self.base]
        tests = holm([paired_test(values[method], values[self.base]) for method in others])
        p_values = dict(zip(others, tests, strict=True))
        return [
            {
                **dict(zip(SERIES, (*family, method), strict=True)),
                "better": better,
                **within(self.pooled.get((*family, method), interval(values[method])), bounds)._asdict(),
                "pairs": int(values[method].notna().sum()),
                "failed": len(set(failed.get_group(method)["item"])) if method in failed.groups else 0,
                "p_holm": p_values.get(method, math.nan),
                "win_rate": win_rate(values[method], values[self.base], better) if method in others else math.nan,
                "seconds": self.seconds_of(Group(*family[:3]), method, [family[3]]).mean(),
            }
            for method in values
        ]


def _pooled(metric: PooledMetric, of_pairs: DataFrame) -> Interval:
    """Return the number of a data set and its interval; pairs that were measured with several seeds have their mean."""
    has_value = ~of_pairs["curve"].map(lambda curve: np.isnan(curve).any())
    rows = of_pairs[has_value].groupby("item")["curve"].agg(lambda curves: np.mean(curves.tolist(), axis=0))
    return jackknife(np.stack(rows.to_list()), metric.weighted, metric.bounds) if len(rows) else NOTHING


def _in_order(plan: Plan, rows: DataFrame) -> DataFrame:
    """Return the rows with columns whose values are ordered as in the plan; metrics and methods are their labels."""
    order = {
        "model": ("model", [choice.label for choice in plan.models]),
        "data": ("data", [choice.label for choice in plan.data]),
        "target": ("target", plan.targets),
        "side": ("side", plan.sides),
        "metric": ("metric_label", [choice.label for choice in plan.metrics]),
        "method": ("method_label", [choice.label for choice in plan.methods]),
    }
    categorical = pandas().Categorical
    return rows.assign(**{name: categorical(rows[column], list(values)) for name, (column, values) in order.items()})


def _by_method(values: Column, columns: list[str]) -> dict[Any, DataFrame]:
    """Return a table for each combination of the columns: a row per pair, a column per method."""
    return {
        key: of_key.droplevel(columns).unstack("method").sort_index()
        for key, of_key in values.groupby(level=columns, observed=True)
    }


DROP, INCREASE, FPS = "confidence_drop", "confidence_increase", "fps"
M2IB = "m2ib"
Figures: TypeAlias = Mapping[tuple[str, str, str, str], float]
"""Published values by data set, method, side (``both`` for FPS) and metric."""
_PairedValues: TypeAlias = tuple[str, np.ndarray, np.ndarray]
"""A metric with its values for NIB and for M2IB on the same pairs."""


@dataclass(frozen=True)
class Headline:
    """A gain of NIB over M2IB as a share: by the published formulas, and relative to M2IB."""

    model: str
    target: str
    nib: str
    quantity: str
    data_sets: tuple[str, ...]
    gain: Interval
    gain_relative_to_m2ib: Interval


def published() -> Figures:
    """Return the values of the paper's table: ViT-B/32, layer 9, 10 steps."""
    text = read_text(files("nibt.evaluation.bench") / "published.csv")
    return {
        (row["data"], row["method"], row["side"], row["metric"]): float(row["value"])
        for row in csv.DictReader(text.splitlines())
    }


def gain(metric: str, nib: Any, m2ib: Any, relative_to_m2ib: bool = False) -> Any:
    """Return the gain of NIB as a share, for numbers or arrays.

    >>> gain("confidence_drop", 1.0, 2.0), gain("fps", 2.0, 1.0), gain("fps", 2.0, 1.0, relative_to_m2ib=True)
    (np.float64(0.5), np.float64(0.5), np.float64(1.0))
    """
    difference = m2ib - nib if metric == DROP else nib - m2ib
    denominator = m2ib if relative_to_m2ib or metric == DROP else nib
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(nib, m2ib), 0.0, np.divide(difference, denominator))[()]  # 0 / 0 is no gain


def published_gains(relative_to_m2ib: bool = False) -> dict[str, float]:
    """Compute the published headline from the published table.

    >>> {quantity: round(100 * share, 2) for quantity, share in published_gains().items()}
    {'image': 9.0, 'text': 58.83, 'speed': 63.95}
    """
    figures = published()
    data_sets = dict.fromkeys(data for data, *_ in figures)
    quantities = {
        "image": [("image", DROP), ("image", INCREASE)],
        "text": [("text", DROP), ("text", INCREASE)],
        "speed": [("both", FPS)],
    }

    def share(data: str, side: str, metric: str) -> Any:
        nib, m2ib = (figures[data, method, side, metric] for method in ("nib", M2IB))
        return gain(metric, nib, m2ib, relative_to_m2ib)

    return {
        quantity: float(np.mean([share(data, side, metric) for data in data_sets for side, metric in columns]))
        for quantity, columns in quantities.items()
    }


def headlines(summary: Summary) -> list[Headline]:
    """Compute the gains of each NIB of the plan over its first M2IB, if it has both, by model and target."""
    nibs = [method.label for method in summary.plan.methods if method.name == "nib"]
    m2ib = next((method.label for method in summary.plan.methods if method.name == M2IB), None)
    if m2ib is None:
        return []
    gains: list[Headline] = []
    for model, target in dict.fromkeys((group.model, group.target) for group in summary.groups):
        groups = [group for group in summary.groups if (group.model, group.target) == (model, target)]
        for nib in nibs:
            for quantity, by_group in _quantities(summary, groups, nib, m2ib):
                names = tuple(group.data for group in by_group)
                values = list(by_group.values())
                relative = _mean_gain(values, relative_to_m2ib=True)
                gains.append(Headline(model, target, nib, quantity, names, _mean_gain(values), relative))
    return gains


def _quantities(
    summary: Summary, groups: Sequence[Group], nib: str, m2ib: str
) -> Iterator[tuple[str, dict[Group, list[_PairedValues]]]]:
    """Yield each quantity that has a gain, with the values of the data sets on which it was measured."""
    by_options: dict[str, dict[str, str]] = {}
    for metric in summary.plan.metrics:
        if metric.name in (DROP, INCREASE):
            by_options.setdefault(metric.label.removeprefix(metric.name).strip(), {})[metric.name] = metric.label
    tables: dict[str, dict[Group, dict[str, DataFrame | None]]] = {
        f"{side} {options}".strip(): {
            group: {name: summary.values.get((*group, side, label)) for name, label in labels.items()}
            for group in groups
        }
        for side in summary.plan.sides
        for options, labels in by_options.items()
        if len(labels) == 2
    }
    tables["speed"] = {}
    for group in groups:
        seconds = {method: summary.seconds_of(group, method, summary.plan.sides) for method in (nib, m2ib)}
        tables["speed"][group] = {FPS: pandas().DataFrame(seconds)}
    for quantity, by_group in tables.items():
        values = {group: _on_common_pairs(by_group[group], nib, m2ib) for group in groups}
        if any(values.values()):
            yield quantity, {group: paired for group, paired in values.items() if paired}


def _on_common_pairs(tables: Mapping[str, DataFrame | None], nib: str, m2ib: str) -> list[_PairedValues]:
    """Return the values of the pairs that have all metrics of both methods; empty if there is no such pair."""
    columns = {
        (metric, method): table[method]
        for metric, table in tables.items()
        for method in (nib, m2ib)
        if table is not None and method in table
    }
    common = pandas().DataFrame(columns).dropna()
    if common.empty or len(columns) < 2 * len(tables):
        return []
    return [(metric, common[metric, nib].to_numpy(), common[metric, m2ib].to_numpy()) for metric in tables]


def _mean_gain(data_sets: Sequence[Sequence[_PairedValues]], relative_to_m2ib: bool = False) -> Interval:
    """Return the mean gain over the data sets and their metrics, with its interval."""

    def statistic(*indices: Any, axis: int = -1) -> Any:
        gains = []
        for paired, drawn in zip(data_sets, indices, strict=True):
            for metric, of_nib, of_m2ib in paired:
                nib, m2ib = (values[drawn.astype(int)].mean(axis) for values in (of_nib, of_m2ib))
                if metric == FPS:  # seconds become explanations per second
                    nib, m2ib = 1 / nib, 1 / m2ib
                gains.append(gain(metric, nib, m2ib, relative_to_m2ib))
        return np.mean(gains, axis=0)

    indices = [np.arange(len(paired[0][1])) for paired in data_sets]
    if any(len(each) < 2 for each in indices):
        value = float(statistic(*indices))
        return Interval(value, math.nan, math.nan)
    return resampled(indices, statistic)
