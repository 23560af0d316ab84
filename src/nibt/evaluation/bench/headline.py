"""The gains of NIB over M2IB beside the published ones."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar

import numpy as np

from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.bench.summary import Group, Summary
from nibt.evaluation.statistics import Interval, resampled
from nibt.io import read_text
from nibt.results.frames import DataFrame, pandas

DROP = "confidence_drop"
INCREASE = "confidence_increase"
FPS = "fps"
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
    views: str
    """The views of an image of both methods."""


def published() -> Figures:
    """Return the values of the paper's table: ViT-B/32, layer 9, 10 steps."""
    text = read_text(files("nibt.evaluation.bench") / "published.csv")
    return {
        (row["data"], row["method"], row["side"], row["metric"]): float(row["value"])
        for row in csv.DictReader(text.splitlines())
    }


_Values = TypeVar("_Values", float, np.ndarray)


def gain(metric: str, nib: _Values, m2ib: _Values, relative_to_m2ib: bool = False) -> Any:
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
            views = " / ".join(summary.views.get((model, "image", method), "-") for method in (nib, m2ib))
            for quantity, by_group in _quantities(summary, groups, nib, m2ib):
                names = tuple(group.data for group in by_group)
                values = list(by_group.values())
                relative = _mean_gain(values, relative_to_m2ib=True)
                gains.append(
                    Headline(
                        model,
                        target,
                        nib=nib,
                        quantity=quantity,
                        data_sets=names,
                        gain=_mean_gain(values),
                        gain_relative_to_m2ib=relative,
                        views=views,
                    )
                )

    return gains


def _metric_labels(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the labels of drop and increase, for the options with which the plan has both."""
    by_options: dict[str, dict[str, str]] = {}
    for metric in plan.metrics:
        if metric.name in (DROP, INCREASE):
            options = metric.label.removeprefix(metric.name).strip()
            by_options.setdefault(options, {})[metric.name] = metric.label
    return {options: labels for options, labels in by_options.items() if len(labels) == 2}


def _quantities(
    summary: Summary, groups: Sequence[Group], nib: str, m2ib: str
) -> Iterator[tuple[str, dict[Group, list[_PairedValues]]]]:
    """Yield each quantity that has a gain, with the values of the data sets on which it was measured."""
    tables: dict[str, dict[Group, dict[str, DataFrame | None]]] = {}
    by_options = _metric_labels(summary.plan)
    for side in summary.plan.sides:
        for options, labels in by_options.items():
            tables[f"{side} {options}".strip()] = {
                group: {name: summary.values.get((*group, side, label)) for name, label in labels.items()}
                for group in groups
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

    def statistic(*indices: np.ndarray, axis: int = -1) -> Any:
        gains = []
        for paired, drawn in zip(data_sets, indices, strict=True):
            for metric, of_nib, of_m2ib in paired:
                nib, m2ib = (values[drawn.astype(int)].mean(axis) for values in (of_nib, of_m2ib))
                if metric == FPS:  # seconds become explanations per second
                    nib = 1 / nib
                    m2ib = 1 / m2ib
                gains.append(gain(metric, nib, m2ib, relative_to_m2ib))
        return np.mean(gains, axis=0)

    indices = [np.arange(len(paired[0][1])) for paired in data_sets]
    if any(len(each) < 2 for each in indices):
        value = float(statistic(*indices))
        return Interval(value, math.nan, math.nan)
    return resampled(indices, statistic)
