"""The rows of a benchmark, which are written into Parquet files."""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, get_type_hints

from typing_extensions import TypedDict

from nibt.data import parquet
from nibt.folder import open_table


class Row(TypedDict):
    """A measured number, with everything that identifies it; names of entries of the plan are their labels."""

    model: str
    weights_hash: str
    method: str  # the name, as that of the metric
    variant: str
    options: str  # in the plan, as JSON
    resolved: str  # on this side with all defaults filled in, and the target, as JSON; by side for regions
    method_label: str
    target: str
    seed: int  # for methods that draw at random
    data: str
    item: int  # the index of the pair in the data set
    side: str  # that is explained, or regions
    metric: str
    metric_options: str  # in the plan, as JSON
    measured: str  # the score that the metric measures
    metric_label: str
    value: float  # NaN if it is not defined or failed
    curve: list[float]  # whose area the value is, or what the number of all pairs needs of this pair; else empty
    seconds: float  # to explain this side of the pair, or to compute its regions
    error: str  # empty if there is none


COLUMNS = tuple(Row.__annotations__)
TIMES = ("seconds",)
"""Columns that differ between two runs of the same plan."""
NEEDED_BY = "a benchmark needs"


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return the bytes of a Parquet file with these rows."""
    arrow = parquet.pyarrow(NEEDED_BY)[0]
    return parquet.encode(arrow.Table.from_pylist(rows, schema=_schema(arrow)))


def read_rows(paths: Iterable[Path]) -> Any:
    """Return the rows of several files as a ``pyarrow.Table``, in order."""
    arrow, tables = parquet.pyarrow(NEEDED_BY)[0], []
    for path in paths:
        with open_table(path) as table:
            tables.append(table.read())
    return arrow.concat_tables([_schema(arrow).empty_table(), *tables]).combine_chunks()


def fingerprint(table: Any) -> str:
    """Return a hash of all rows without their times, as 64 hexadecimal digits."""
    digest = sha256()
    for name in table.column_names:
        if name not in TIMES:
            digest.update(json.dumps([name, [_bits(value) for value in table[name].to_pylist()]]).encode())
    return digest.hexdigest()


def _bits(value: Any) -> Any:
    """Convert a value for JSON, with all bits of its numbers."""
    if isinstance(value, list):
        return [_bits(element) for element in value]
    return value.hex() if isinstance(value, float) else value


def _schema(arrow: Any) -> Any:
    number = arrow.float64()
    types = {str: arrow.string(), int: arrow.int64(), float: number, list[float]: arrow.list_(number)}
    return arrow.schema([(name, types[annotation]) for name, annotation in get_type_hints(Row).items()])
