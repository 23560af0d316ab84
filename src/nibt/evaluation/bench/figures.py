"""Plots as PNG files in memory.

This is the only module that imports matplotlib. It uses the Agg canvas and no global state.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nibt.errors import Unsupported
from nibt.evaluation.bench.plan import CONTROLS
from nibt.evaluation.bench.summary import Line, Summary

_COLUMNS = 3


def plot_cost(lines: Sequence[Line]) -> bytes:
    """Plot each metric against the milliseconds per explanation: a point with its interval for each method."""

    def panel(axes: Any, of_metric: Sequence[Line]) -> None:
        for line in of_metric:
            if math.isnan(line.mean[0]) or math.isnan(line.seconds):
                continue
            mean, low, high = line.mean
            cost = 1000 * line.seconds
            axes.errorbar(
                cost,
                mean,
                yerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]],
                fmt="o",
                markersize=4,
                capsize=2,
                linewidth=0.8,
            )
            axes.annotate(line.series.method, (cost, mean), textcoords="offset points", xytext=(4, 3), fontsize=6)
        axes.set_xscale("log")
        axes.set_xlabel("ms per explanation", fontsize=7)

    return _panels(lines, panel)


def plot_distributions(lines: Sequence[Line], summary: Summary) -> bytes:
    """Plot the values of all pairs as a box per method.

    The box shows the quartiles and the mean; the whiskers extend to 1.5 times the interquartile range.
    """

    def panel(axes: Any, of_metric: Sequence[Line]) -> None:
        samples = [np.array(list(summary.values[line.series].values()), float) for line in of_metric]
        samples = [values[~np.isnan(values)] for values in samples]
        axes.boxplot(
            samples[::-1],
            orientation="horizontal",
            showmeans=True,
            widths=0.6,
            flierprops={"markersize": 2},
            meanprops={"markersize": 3},
        )
        methods = [line.series.method for line in of_metric]
        axes.set_yticks(range(1, len(methods) + 1), methods[::-1], fontsize=6)

    return _panels(lines, panel, row_height=0.16 * len({line.series.method for line in lines}))


def plot_curves(lines: Sequence[Line], summary: Summary) -> bytes:
    """Plot the mean curves of deletion and insertion: the score against the share of units removed or inserted.

    The base method has a thick line; negative controls are dotted.
    """

    def panel(axes: Any, of_metric: Sequence[Line]) -> None:
        for position, line in enumerate(of_metric):
            curve = summary.curves[line.series]
            style = ":" if line.series.method in CONTROLS else ("-", "--", "-.")[position // 10 % 3]
            axes.plot(
                np.linspace(0, 1, len(curve)),
                curve,
                style,
                color=f"C{position % 10}",
                label=line.series.method,
                linewidth=2.4 if line.series.method == summary.base else 0.9,
            )
        axes.set_xlabel("share of units", fontsize=7)
        axes.legend(fontsize=5, loc="center left", bbox_to_anchor=(1, 0.5))

    return _panels([line for line in lines if line.series in summary.curves], panel, row_height=3.6)


def _panels(lines: Sequence[Line], panel: Callable[[Any, Sequence[Line]], None], row_height: float = 0.0) -> bytes:
    """Draw a panel for each metric; a row is at least ``row_height`` inches high."""
    figure_class, canvas_class = _matplotlib()
    metrics = list(dict.fromkeys(line.series.metric for line in lines))
    rows = -(-len(metrics) // _COLUMNS)
    figure = figure_class(figsize=(4.2 * _COLUMNS, max(2.8, row_height) * rows), dpi=90, layout="constrained")
    canvas_class(figure)
    all_axes = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for axes, metric in zip(all_axes, metrics, strict=False):
        of_metric = [line for line in lines if line.series.metric == metric]
        panel(axes, of_metric)
        better = {"higher": ", higher is better", "lower": ", lower is better"}.get(of_metric[0].better, "")
        axes.set_title(metric + better, fontsize=8)
        axes.tick_params(labelsize=6)
    for axes in figure.axes[len(metrics) :]:
        axes.set_axis_off()
    return _as_png(figure)


def _as_png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _matplotlib() -> tuple[Any, Any]:
    """Return the classes of a figure and of its canvas."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unsupported("plots need matplotlib: pip install 'nibt[bench]'") from error
    return Figure, FigureCanvasAgg
