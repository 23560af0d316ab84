"""Comparison of the word-region tables of several methods, as a table for papers."""

from collections.abc import Mapping, Sequence

import numpy as np

from nibt.evaluation.statistics import interval
from nibt.evaluation.tables import ReportTable, number, with_interval
from nibt.registry import find
from nibt.results.measurement import TableMeasurement


def compare_tables(title: str, measured: Mapping[str, Sequence[TableMeasurement]]) -> ReportTable:
    """Return the means of the metrics of several methods, with 95 % intervals."""
    labels = list(dict.fromkeys(row.label for rows in measured.values() for row in rows))
    rows = []
    for method, own in measured.items():
        cells = [with_interval(interval([row.value for row in own if row.label == label])) for label in labels]
        seconds = {row.item: row.seconds for row in own}
        rows.append([method, *cells, number(float(np.median(list(seconds.values()))))])
    names = {row.label: row.metric for own in measured.values() for row in own}
    better = {label: find("table_metrics", name).better for label, name in names.items()}
    heads = [label if better[label] == "neither" else f"{label} ({better[label]})" for label in labels]
    return ReportTable(
        title,
        ["method", *heads, "seconds"],
        rows,
        "Means over pairs with 95 % intervals (Student); seconds are the median for a table.",
    )
