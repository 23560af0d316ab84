"""Summaries of the rows of a run, and the headline of the paper: the gain of NIB over M2IB (Zhu et al., ICLR 2025).

A summary has a line for each model, data set, target, side, metric and method. The gain is averaged over data sets:
(M2IB - NIB) / M2IB for confidence drop, (NIB - M2IB) / NIB for confidence increase and explanations per second.

The published formulas have different denominators. The gains with M2IB as the denominator of all formulas are reported
as well. The intervals resample the pairs of each data set, the same pairs for both methods (percentile bootstrap).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nibt.errors import BadInput, BadOption
from nibt.evaluation.bench.choice import MetricChoice
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
    win_rate,
    within,
)
from nibt.io import load_json
from nibt.metrics.base import Metric, PooledMetric
from nibt.records import JsonObject
from nibt.results.frames import Column, DataFrame, pandas

BASE = "nib"
GROUP = ["model", "data", "target"]
TABLE = [*GROUP, "side"]
"""The columns that identify a table of a report, over which p values are corrected."""
FAMILY = [*TABLE, "metric"]
"""The columns that identify the values that are compared between methods."""
SERIES = [*FAMILY, "method"]
"""The columns that identify the values of one method."""

LINE = [*SERIES, "views", "better", *Interval._fields, "pairs", "failed", "base", "p_holm", "win_rate", "seconds"]
"""The columns of a summary."""


class Group(NamedTuple):
    """What the tables of a report have in common."""

    model: str
    data: str
    target: str


class MetricFacts(BaseModel):
    """What a report needs to know of a metric."""

    model_config = ConfigDict(frozen=True)

    better: Better
    bounds: tuple[float | None, float | None] = Field(description="The least and largest value; None without a bound.")
    is_pooled: bool = Field(description="Whether its number for a data set is computed from all pairs together.")

    @classmethod
    def of(cls, metric: Metric) -> "MetricFacts":
        least, most = (bound if math.isfinite(bound) else None for bound in metric.bounds)
        return cls(better=metric.better, bounds=(least, most), is_pooled=isinstance(metric, PooledMetric))

    @property
    def limits(self) -> tuple[float, float]:
        """The bounds; infinite where there is none."""
        least, most = self.bounds
        return (-math.inf if least is None else least, math.inf if most is None else most)


class PluginFacts(BaseModel):
    """What a report needs to know of the methods and metrics of a plan.

    It is recorded with a run, since another program cannot find classes of a script.
    """

    model_config = ConfigDict(frozen=True)

    metrics: dict[str, MetricFacts] = Field(description="The metrics, by their labels.")
    controls: list[str] = Field(description="The labels of the methods that do not use the model.")

    @classmethod
    def of(cls, plan: Plan) -> "PluginFacts":
        metrics = {choice.label: MetricFacts.of(build_metric(choice)) for choice in plan.metrics}
        controls = [choice.label for choice in plan.methods if choice.plugin.category == "control"]
        return cls(metrics=metrics, controls=controls)


@dataclass(frozen=True, eq=False)
class Summary:
    """The values of a run by pair, averaged over seeds, with the times, failures, curves and pooled numbers."""

    plan: Plan
    values: Mapping[tuple[str, ...], DataFrame]
    times: Mapping[tuple[str, ...], DataFrame]
    failures: DataFrame
    curves: Mapping[tuple[str, ...], np.ndarray]
    pooled: Mapping[tuple[str, ...], Interval]
    facts: PluginFacts
    views: Mapping[tuple[str, str, str], str]
    """The views of an image, by model, side and method; captions, and methods whose pairs all failed, have none."""
    targets: Mapping[tuple[str, str, str], str]
    """The target that is explained, by model, target of the plan and side: a side that has nothing to compare with is
    explained with the plain similarity."""
    base: str | None
    """The method that the others are compared with."""
    compares_all: bool
    """Whether methods with other numbers of views than the base method are compared with it, too."""

    @classmethod
    def of(cls, plan: Plan, rows: DataFrame, base: str | None = None, facts: PluginFacts | None = None) -> "Summary":
        """Summarize the rows of a run, as ``Benchmark.frame`` returns them.

        Without ``base``, each method is compared with a base method that has as many views (``base_for``); with it, all
        methods are compared with this one. ``facts`` are those that were recorded with the run; None means those of the
        plan.

        Raises:
            BadOption: The plan has no method ``base``.
            BadInput: A metric has numbers of all pairs together, and its class is that of a script.
        """
        facts = PluginFacts.of(plan) if facts is None else facts
        rows = _in_order(plan, rows)
        values = rows.groupby([*SERIES, "item"], observed=True)["value"].mean()
        pair = [*GROUP, "side", "method", "item"]
        # each metric of a pair repeats the seconds of the explanation
        seconds = rows[rows["error"] == ""].groupby([*pair, "seed"], observed=True)["seconds"].first()
        curves = rows[rows["curve"].map(len) > 0].groupby(SERIES, observed=True)
        pooling = {choice.label: _pooling(choice) for choice in plan.metrics if facts.metrics[choice.label].is_pooled}
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
            facts,
            _views(rows),
            _targets(rows),
            _base_of(plan, base),
            compares_all=base is not None,
        )

    @cached_property
    def controls(self) -> set[str]:
        """The labels of the methods that do not use the model."""
        return set(self.facts.controls)

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
        ``views``, the number of views of an image, or "" on the side of captions;
        ``base``, the base method that it is compared with, or "" if there is none with as many views;
        ``p_holm``, the p value of the difference from this base method, with Holm's correction over all methods and
        metrics of a model, data set, target and side, as in a table of the report; NaN without a base method;
        ``win_rate``, the share of pairs on which the method is better than the base method, where a tie is half a win;
        ``seconds``, the mean time to explain this side of a pair.
        """
        lines = [line for family, values in self.values.items() for line in self._lines(family, values)]
        of_tables: dict[tuple[str, ...], list[JsonObject]] = {}
        for line in lines:
            of_tables.setdefault(tuple(line[name] for name in TABLE), []).append(line)
        for of_table in of_tables.values():
            for line, p_value in zip(of_table, holm([line["p_holm"] for line in of_table]), strict=True):
                line["p_holm"] = p_value

        return pandas().DataFrame(lines, columns=LINE)

    def base_for(self, model: str, side: str, method: str) -> str | None:
        """Return the method that a method is compared with; None for a base method, and if there is none.

        If a method has another number of views than the base method, it is compared with the NIB of the plan, or
        whatever the base method is, that has as many; of several, with the variant of the base method and the fewest
        options. Controls do not use the model, so they are compared with the base method, whatever its views.
        """
        if self.base is None:
            return None

        views = {choice.label: self.views.get((model, side, choice.label)) for choice in self.plan.methods}
        base = self.base
        if views[method] != views[base] and not self.compares_all and method not in self.controls:
            of_base = next(choice for choice in self.plan.methods if choice.label == base)
            alike = [
                choice
                for choice in self.plan.methods
                if choice.name == of_base.name and views[choice.label] == views[method]
            ]
            if not alike:
                return None
            base = min(alike, key=lambda choice: (choice.variant != of_base.variant, len(choice.options))).label

        return None if method == base else base

    def lines_of(self, group: Group, side: str) -> DataFrame:
        return self.lines[(self.lines[[*GROUP, "side"]] == [*group, side]).all(axis=1)]

    def seconds_of(self, group: Group, method: str, sides: Sequence[str]) -> Column:
        """Return the seconds of each pair that was explained on all the sides, summed over the sides."""
        by_side = [self.times[*group, side][method] for side in sides if method in self.times.get((*group, side), ())]
        if len(by_side) < len(sides):
            return pandas().Series(dtype=float)
        return pandas().concat(by_side, axis=1).sum(axis=1, skipna=False).dropna()

    def _lines(self, family: tuple[str, ...], values: DataFrame) -> list[JsonObject]:
        """Return the lines of the methods of a family, compared with a base method, without Holm's correction."""
        metric = self.facts.metrics[family[-1]]
        better = metric.better
        bounds = metric.limits
        failed = self.failures[(self.failures[FAMILY] == list(family)).all(axis=1)].groupby("method", observed=True)
        bases = {method: self.base_for(family[0], family[3], method) for method in values}
        compared = {method: values[base] for method, base in bases.items() if base in values}
        return [
            {
                **dict(zip(SERIES, (*family, method), strict=True)),
                "views": self.views.get((family[0], family[3], method), ""),
                "better": better,
                **within(self.pooled.get((*family, method), interval(values[method], bounds)), bounds)._asdict(),
                "pairs": int(values[method].notna().sum()),
                "failed": len(set(failed.get_group(method)["item"])) if method in failed.groups else 0,
                "base": bases[method] if method in compared else "",
                "p_holm": paired_test(values[method], compared[method]) if method in compared else math.nan,
                "win_rate": win_rate(values[method], compared[method], better) if method in compared else math.nan,
                "seconds": self.seconds_of(Group(*family[:3]), method, [family[3]]).mean(),
            }
            for method in values
        ]


def _views(rows: DataFrame) -> dict[tuple[str, str, str], str]:
    """Return the number of views of an image of each method, by model, side and method."""
    explained = rows[(rows["side"] != "text") & (rows["resolved"] != "")]
    resolved = explained.groupby(["model", "side", "method"], observed=True)["resolved"].first()
    views: dict[tuple[str, str, str], str] = {}
    for (model, side, method), text in resolved.items():
        options = load_json(text)
        of_image = options.get("image", {}) if side == "regions" else options
        views[model, side, method] = str(of_image.get("views", "-"))

    return views


def _targets(rows: DataFrame) -> dict[tuple[str, str, str], str]:
    """Return the targets that were explained, by model, target of the plan and side."""
    resolved = rows[rows["resolved"] != ""].groupby(["model", "target", "side"], observed=True)["resolved"].first()
    return {place: str(load_json(text).get("target", place[1])) for place, text in resolved.items()}


def _base_of(plan: Plan, base: str | None) -> str | None:
    """Return the base method: the given one, or NIB's default or, if the plan lacks it, its first NIB."""
    if base is not None:
        labels = [method.label for method in plan.methods]
        if base not in labels:
            raise BadOption(f"base must be one of {', '.join(labels)} (got {base!r})")
        return base

    labels = [method.label for method in plan.methods if method.name == BASE]
    return BASE if BASE in labels else next(iter(labels), None)


def _pooling(choice: MetricChoice) -> PooledMetric:
    """Return the metric that computes a number from all pairs together."""
    if not choice.is_known:
        raise BadInput(
            f"the number of {choice.label} for a data set is computed by its class, which is that of a script: report "
            "there, with nibt.write_report(run), or declare an entry point for the metric"
        )
    metric = build_metric(choice)
    assert isinstance(metric, PooledMetric)
    return metric


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
