"""Plots as PNG files in memory, by matplotlib without its global state."""

import io
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from nibt.evaluation.bench.plan import CONTROLS
from nibt.evaluation.bench.summary import FAMILY, SERIES, Summary
from nibt.io import one_line
from nibt.results.frames import DataFrame

_COLUMNS = 3


def plot_cost(lines: DataFrame) -> bytes:
    """Plot each metric against the milliseconds per explanation: a point with its interval for each method."""

    def panel(axes: Axes, of_metric: DataFrame) -> None:
        for line in of_metric.dropna(subset=["mean", "seconds"]).itertuples():
            cost = 1000 * line.seconds
            axes.errorbar(
                cost,
                line.mean,
                yerr=[[max(0.0, line.mean - line.low)], [max(0.0, line.high - line.mean)]],
                fmt="o",
                markersize=4,
                capsize=2,
                linewidth=0.8,
            )
            axes.annotate(_label(line.method), (cost, line.mean), textcoords="offset points", xytext=(4, 3), fontsize=6)

        axes.set_xscale("log")
        axes.set_xlabel("ms per explanation", fontsize=7)

    return _panels(lines, panel)


def plot_distributions(lines: DataFrame, summary: Summary) -> bytes:
    """Plot a box per method: quartiles, mean, and whiskers of 1.5 times the interquartile range."""

    def panel(axes: Axes, of_metric: DataFrame) -> None:
        values = summary.values[tuple(of_metric.iloc[0][FAMILY])]
        methods = list(of_metric["method"])
        samples = [values[method].dropna() for method in methods]
        axes.boxplot(
            samples[::-1],
            orientation="horizontal",
            showmeans=True,
            widths=0.6,
            flierprops={"markersize": 2},
            meanprops={"markersize": 3},
        )
        axes.set_yticks(range(1, len(methods) + 1), list(map(_label, methods[::-1])), fontsize=6)

    return _panels(lines, panel, row_height=0.16 * lines["method"].nunique())


def plot_curves(lines: DataFrame, summary: Summary) -> bytes:
    """Plot the mean curves of deletion and insertion; the base method is thick, controls are dotted."""

    def panel(axes: Axes, of_metric: DataFrame) -> None:
        for position, (*family, method) in enumerate(of_metric[SERIES].itertuples(index=False, name=None)):
            curve = summary.curves[*family, method]
            style = ":" if method in CONTROLS else ("-", "--", "-.")[position // 10 % 3]
            axes.plot(
                np.linspace(0, 1, len(curve)),
                curve,
                style,
                color=f"C{position % 10}",
                label=_label(method),
                linewidth=2.4 if method == summary.base else 0.9,
            )

        axes.set_xlabel("share of units", fontsize=7)
        axes.legend(fontsize=5, loc="center left", bbox_to_anchor=(1, 0.5))

    with_curve = [series in summary.curves for series in lines[SERIES].itertuples(index=False, name=None)]
    return _panels(lines[with_curve], panel, row_height=3.6)


def _label(text: str) -> str:
    """Return a label on one line, of which matplotlib reads nothing as a formula or as hidden."""
    return one_line(f" {text}" if text.startswith("_") else text).replace("$", r"\$")


def _panels(lines: DataFrame, panel: Callable[[Axes, DataFrame], None], row_height: float = 0.0) -> bytes:
    """Draw a panel for each metric; a row is at least ``row_height`` inches high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = list(lines["metric"].unique())
    rows = -(-len(metrics) // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, max(2.8, row_height) * rows), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for axes, metric in zip(all_axes, metrics, strict=False):
        of_metric = lines[lines["metric"] == metric]
        panel(axes, of_metric)
        better = {"higher": ", higher is better", "lower": ", lower is better"}.get(of_metric["better"].iloc[0], "")
        axes.set_title(_label(metric) + better, fontsize=8)
        axes.tick_params(labelsize=6)

    for axes in figure.axes[len(metrics) :]:
        axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
