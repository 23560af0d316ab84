"""Measurement of word-region tables by table metrics."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from nibt.data.ground_truth import objects_of_words
from nibt.data.images import Region
from nibt.data.pair import Pair, require_image_text
from nibt.data.units import Words
from nibt.engine.regions import explain_pair, resolve_regions
from nibt.errors import BadInput
from nibt.methods.base import Method, MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import available, find
from nibt.results.measurement import TableMeasurement
from nibt.table_metrics.base import Noun, TableInput, TableMetric


def measure_interactions(
    model: Model | str | Path | nn.Module,
    pairs: Sequence[Pair],
    metrics: str | Sequence[str | TableMetric] | Mapping[str, str | TableMetric] | None = None,
    method: str | MethodSpec | Method = "nib",
    *,
    variant: str = "default",
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> list[TableMeasurement]:
    """Compute the word-region tables of pairs with a method, and measure them with table metrics.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and a caption. Metrics of nouns need ``Pair.objects`` with their words, and are NaN for
            pairs without them.
        metrics: Names of table metrics, or metrics with their options, or a mapping of labels to either. None means
            all.
        method: The method, as in ``regions``.
        variant: A variant of the method.
        on_progress: Called after each pair with the number of pairs that are done.
        **options: Options of the method.

    Returns:
        One measurement per pair and metric. ``seconds`` is the time to compute the table.

    Raises:
        BadInput: There are no pairs, or a pair is not an image with a caption.
        UnknownName: No metric, method, variant or option has that name.
        BadOption: An option has an invalid value.

    """
    if not pairs:
        raise BadInput("there is nothing to measure (got no pairs): give at least one pair")
    names = [metrics] if isinstance(metrics, str) else metrics
    labeled = _labeled(available("table_metrics") if names is None else names)
    spec = resolve_regions(load_model(model), MethodSpec.of(method, variant, options))
    measurements = []
    for item, pair in enumerate(require_image_text(pair, "measure_interactions") for pair in pairs):
        started = time.perf_counter()
        table, image, text = explain_pair(spec, pair, ())
        seconds = time.perf_counter() - started
        table_input = TableInput(table, image, text, nouns_of(pair, table.region, table.units))
        for label, metric in labeled.items():
            value = metric(table_input)
            measurements.append(TableMeasurement(item, metric.name, value, label, seconds))
        on_progress(Progress(item + 1, len(pairs)))
    return measurements


def _labeled(metrics: Sequence[str | TableMetric] | Mapping[str, str | TableMetric]) -> dict[str, TableMetric]:
    """Return the metrics by their labels: their names and the options that differ from the defaults."""
    if isinstance(metrics, Mapping):
        return {label: _metric(metric) for label, metric in metrics.items()}
    return {_label(metric): metric for metric in map(_metric, metrics)}


def _metric(metric: str | TableMetric) -> TableMetric:
    return find("table_metrics", metric)() if isinstance(metric, str) else metric


def _label(metric: TableMetric) -> str:
    changed = [f"{name}={value}" for name, value in vars(metric).items() if value != getattr(type(metric), name)]
    return " ".join([metric.name, *changed])


def nouns_of(pair: Pair, region: Region, words: Words) -> tuple[Noun, ...]:
    """Return the nouns of a caption whose objects are visible."""
    named = objects_of_words(pair, region, words)
    return tuple(
        Noun(chosen, own, tuple(mask for place, (_, mask) in enumerate(named) if place != index))
        for index, (chosen, own) in enumerate(named)
    )
