"""The store of a run: a folder with a Parquet file for each finished chunk.

A file is written completely or not at all, and its name has a hash of what identifies the chunk and a digest of its
bytes (``nibt.parts``). A run that was killed continues with the chunks that have no file, so that no chunk is lost or
stored twice.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, get_type_hints

from typing_extensions import TypedDict

from nibt import parquet
from nibt.parts import Parts


class Row(TypedDict):
    """A measured number, with everything that identifies it.

    Attributes:
        model: The label of the model.
        weights_hash: The hash of its weights.
        method: The name of the method.
        variant: Its variant.
        options: Its options in the plan, as JSON.
        resolved: Its options on this side with all defaults filled in, and the target, as JSON.
        method_label: The label of the method.
        target: The target that is explained.
        seed: The seed, for methods that draw at random.
        data: The label of the data set.
        item: The index of the pair in the data set.
        side: The side that is explained.
        metric: The name of the metric.
        metric_options: Its options in the plan, as JSON.
        measured: The score that it measures.
        metric_label: The label of the metric.
        value: The number; NaN if it is not defined or failed.
        curve: The curve whose area the value is; empty for other metrics.
        seconds: The time to explain this side of the pair.
        error: The message of the error; empty if there is none.

    """

    model: str
    weights_hash: str
    method: str
    variant: str
    options: str
    resolved: str
    method_label: str
    target: str
    seed: int
    data: str
    item: int
    side: str
    metric: str
    metric_options: str
    measured: str
    metric_label: str
    value: float
    curve: list[float]
    seconds: float
    error: str


COLUMNS = tuple(Row.__annotations__)
TIMES = ("seconds",)
"""Columns that differ between two runs of the same plan."""
_HOUR = 3600.0


@dataclass(frozen=True)
class Store:
    """A folder with a Parquet file, called part, for each chunk.

    Attributes:
        folder: The folder.

    """

    folder: Path

    @property
    def _parts(self) -> Parts:
        return Parts(self.folder, r"[0-9a-f]{32}", "move it away, and resume the run to measure it again")

    def names(self) -> set[str]:
        """Return the names of the parts that exist."""
        return set(self._parts.files())

    def add(self, name: str, rows: list[Row]) -> None:
        """Write a part."""
        arrow = _pyarrow()
        self._parts.add(name, parquet.encode(arrow.Table.from_pylist(rows, schema=_schema(arrow))))

    def table(self, names: Iterable[str]) -> Any:
        """Return the rows of several parts as a ``pyarrow.Table``, in order. Missing parts are skipped."""
        arrow, tables, files = _pyarrow(), [], self._parts.files()
        for name in names:
            for path in files.get(name, [])[:1]:
                with self._parts.open(path) as file:
                    tables.append(file.read())
        return arrow.concat_tables([_schema(arrow).empty_table(), *tables]).combine_chunks()

    def check(self) -> None:
        """Check that the store can be written."""
        _pyarrow()

    def repair(self) -> None:
        """Remove drafts of runs that were killed. Those of the last hour may belong to a run in progress."""
        self._parts.repair(_HOUR)


def part_name(address: Mapping[str, Any]) -> str:
    """Return the name of the part of a chunk: 32 hexadecimal digits, a hash of what identifies the chunk."""
    return sha256(json.dumps(address, sort_keys=True, default=str).encode()).hexdigest()[:32]


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
    kinds = {str: arrow.string(), int: arrow.int64(), float: number, list[float]: arrow.list_(number)}
    return arrow.schema([(name, kinds[kind]) for name, kind in get_type_hints(Row).items()])


def _pyarrow() -> Any:
    return parquet.pyarrow("the store of a benchmark needs")[0]
