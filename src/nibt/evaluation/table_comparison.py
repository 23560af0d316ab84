"""Comparison of the word-region tables of several methods, as a table for papers."""

import shlex
from collections.abc import Mapping, Sequence

import numpy as np

from nibt.errors import BadOption
from nibt.evaluation.statistics import interval
from nibt.evaluation.tables import Table, number, with_interval
from nibt.methods.base import MethodSpec
from nibt.registry import find
from nibt.results.measurement import Measurement


def parse_method(text: str) -> MethodSpec:
    """Parse a method with its options, such as ``banzhaf budget=200 share=0.3`` or ``nib:paper``.

    Raises:
        UnknownName: There is no such method.
        BadOption: A part is no option, or is set twice.

    """
    name, *parts = shlex.split(text) or [""]
    spec, options = MethodSpec.parse(name), {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key or key in options:
            raise BadOption(f"options of a method must be name=value, each once (got {part!r} in {text!r})")
        options[key] = None if value.lower() == "none" else value
    return MethodSpec(spec.name, spec.variant, options)


def compare_tables(title: str, measured: Mapping[str, Sequence[Measurement]]) -> Table:
    """Return the means of the metrics of several methods, with bootstrap 95 % intervals.

    Args:
        title: The title.
        measured: The measurements of each method, with the same metrics.

    """
    labels = list(dict.fromkeys(row.label for rows in measured.values() for row in rows))
    rows = []
    for method, own in measured.items():
        cells = [with_interval(interval([row.value for row in own if row.label == label])) for label in labels]
        seconds = {row.item: row.seconds for row in own}
        rows.append([method, *cells, number(float(np.median(list(seconds.values()))))])
    names = {row.label: row.metric for own in measured.values() for row in own}
    better = {label: find("table_metrics", name).better for label, name in names.items()}
    heads = [label if better[label] == "neither" else f"{label} ({better[label]})" for label in labels]
    return Table(
        title,
        ["method", *heads, "seconds"],
        rows,
        "Means over pairs with percentile bootstrap 95 % intervals; seconds are the median for a table.",
    )
