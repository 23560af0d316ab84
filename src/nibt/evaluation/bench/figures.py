"""Plots as PNG files in memory: the only home of matplotlib, by its Agg canvas, with no global state."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nibt.errors import Unsupported
from nibt.evaluation.bench.plan import CONTROLS
from nibt.evaluation.bench.summary import Line, Summary

_COLUMNS = 3


def against_cost(lines: Sequence[Line]) -> bytes:
    """Each metric of a group and a side against what an explanation costs, a point a method with its interval."""

    def panel(axes: Any, own: Sequence[Line]) -> None:
        for line in own:
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
            axes.annotate(line.of.method, (cost, mean), textcoords="offset points", xytext=(4, 3), fontsize=6)
        axes.set_xscale("log")
        axes.set_xlabel("ms an explanation", fontsize=7)

    return _panels(lines, panel)


def distributions(lines: Sequence[Line], summary: Summary) -> bytes:
    """The numbers of all pairs, a box a method: quartiles, whiskers to 1.5 times their distance, the mean."""

    def panel(axes: Any, own: Sequence[Line]) -> None:
        found = [np.array(list(summary.values[line.of].values()), float) for line in own]
        found = [values[~np.isnan(values)] for values in found]
        axes.boxplot(
            found[::-1],
            orientation="horizontal",
            showmeans=True,
            widths=0.6,
            flierprops={"markersize": 2},
            meanprops={"markersize": 3},
        )
        axes.set_yticks(range(1, len(own) + 1), [line.of.method for line in own[::-1]], fontsize=6)

    return _panels(lines, panel, tall=0.16 * len({line.of.method for line in lines}))


def curves(lines: Sequence[Line], summary: Summary) -> bytes:
    """What deletion and insertion are the areas under: the mean score against the share of units that are gone, or
    there. The base is drawn thick; controls, which know nothing of the model, are dotted.
    """

    def panel(axes: Any, own: Sequence[Line]) -> None:
        for place, line in enumerate(own):
            found = summary.curves[line.of]
            style = ":" if line.of.method in CONTROLS else ("-", "--", "-.")[place // 10 % 3]
            axes.plot(
                np.linspace(0, 1, len(found)),
                found,
                style,
                color=f"C{place % 10}",
                label=line.of.method,
                linewidth=2.4 if line.of.method == summary.base else 0.9,
            )
        axes.set_xlabel("share of the units", fontsize=7)
        axes.legend(fontsize=5, loc="center left", bbox_to_anchor=(1, 0.5))

    return _panels([line for line in lines if line.of in summary.curves], panel, tall=3.6)


def course(xs: Sequence[float], ys: Sequence[float], x: str, y: str) -> bytes:
    """One number over another, from zero up; ``x`` and ``y`` are what the axes are called."""
    figure_kind, canvas_kind = _matplotlib()
    figure = figure_kind(figsize=(6.4, 3.2), dpi=110, layout="constrained")
    canvas_kind(figure)
    axes = figure.subplots()
    axes.plot(xs, ys, linewidth=1)
    axes.set_xlim(0, max(xs))
    axes.set_ylim(0, 1.15 * max(ys))
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)
    return _as_png(figure)


def _panels(lines: Sequence[Line], panel: Callable[[Any, Sequence[Line]], None], tall: float = 0.0) -> bytes:
    """A panel for each metric."""
    figure_kind, canvas_kind = _matplotlib()
    metrics = list(dict.fromkeys(line.of.metric for line in lines))
    rows = -(-len(metrics) // _COLUMNS)
    figure = figure_kind(figsize=(4.2 * _COLUMNS, max(2.8, tall) * rows), dpi=90, layout="constrained")
    canvas_kind(figure)
    all_axes = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for axes, metric in zip(all_axes, metrics, strict=False):
        own = [line for line in lines if line.of.metric == metric]
        panel(axes, own)
        better = {"higher": ", higher is better", "lower": ", lower is better"}.get(own[0].better, "")
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
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unsupported("plots need matplotlib: pip install 'nibt[bench]'") from error
    return Figure, FigureCanvasAgg
