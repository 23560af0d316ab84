"""Plots as files in memory, PNG for reports and PDF for papers, by matplotlib without its global state."""

import io
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from nibt.evaluation.bench.plan import CONTROLS
from nibt.evaluation.bench.summary import FAMILY, SERIES, Summary
from nibt.io import one_line
from nibt.results.frames import Column, DataFrame

COLUMN_WIDTH, TEXT_WIDTH = 3.25, 6.75
"""The widths of a column and of a page in usual templates of conferences, in inches."""
_COLUMNS = 3
_SERIF = {"family": "STIXGeneral", "size": 8}  # Times, in the size of captions; it ships with matplotlib


def plot_cost(lines: DataFrame) -> bytes:
    """Plot each metric against the milliseconds per explanation: a point with its interval for each method."""

    def panel(axes: Axes, of_metric: DataFrame) -> None:
        for line in of_metric.dropna(subset=["mean", "seconds"]).itertuples():
            cost = 1000 * line.seconds
            axes.errorbar(
                cost,
                line.mean,
                yerr=_errors(line.mean, line.low, line.high),
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


def plot_means(lines: DataFrame, width: float) -> bytes:
    """Plot the mean and the interval of each method as a PDF file for a paper: a panel for each metric."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    metrics = list(lines["metric"].unique())
    methods = list(lines["method"].unique())
    columns = min(len(metrics), _COLUMNS)
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(width, rows * (0.55 + 0.15 * len(methods))), layout="constrained")
    FigureCanvasPdf(figure)
    all_axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for axes, metric in zip(all_axes, metrics, strict=False):
        of_metric = lines[lines["metric"] == metric].set_index("method")
        for place, method in enumerate(methods):
            if method in of_metric.index:
                _mean(axes, of_metric.loc[method], place, "0.6" if method in CONTROLS else "C0")

        better = {"higher": " (higher)", "lower": " (lower)"}.get(of_metric["better"].iloc[0], "")
        axes.set_xlabel(_label(metric) + better, **_SERIF)
        axes.set_yticks(range(len(methods)), list(map(_label, methods)))
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set(fontfamily=_SERIF["family"], fontsize=_SERIF["size"] - 1)
        axes.spines[["top", "right"]].set_visible(False)

    figure.axes[0].invert_yaxis()
    for axes in figure.axes[len(metrics) :]:
        axes.set_axis_off()

    file = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):  # text that can be searched and edited
        figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return file.getvalue()


def _mean(axes: Axes, line: Column, place: int, color: str) -> None:
    """Plot the mean of a method with its interval at a place."""
    errors = _errors(line["mean"], line["low"], line["high"])
    axes.errorbar(line["mean"], place, xerr=errors, fmt="o", markersize=3, capsize=2, linewidth=0.8, color=color)


def _errors(mean: float, low: float, high: float) -> np.ndarray:
    """Return how far both ends of an interval are from a mean; NaN, which is not drawn, for an infinite one."""
    errors = np.array([[max(0.0, mean - low)], [max(0.0, high - mean)]])
    return np.where(np.isfinite(errors), errors, np.nan)


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
