"""The store of a run: a folder with a Parquet file for each finished chunk.

A file is written completely or not at all, and its name is a hash of what identifies the chunk. A run that was killed
continues with the chunks that have no file, so that no chunk is lost or stored twice.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any

from nibt import parquet

COLUMNS = (
    "model",
    "weights_hash",
    "method",
    "variant",
    "options",
    "resolved",
    "method_label",
    "target",
    "seed",
    "data",
    "item",
    "side",
    "metric",
    "metric_options",
    "measured",
    "metric_label",
    "value",
    "curve",
    "seconds",
    "error",
)
"""The columns of the rows. ``options`` are the options in the plan, ``resolved`` those with all defaults."""
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

    def has(self, name: str) -> bool:
        """Return whether a part exists."""
        return self._path(name).is_file()

    def add(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Write a part.

        Raises:
            CannotWrite: The disk is full, or the folder is not writable.

        """
        arrow = _pyarrow()
        parquet.write(self._path(name), parquet.encode(arrow.Table.from_pylist(rows, schema=_schema(arrow))))

    def table(self, names: Iterable[str]) -> Any:
        """Return the rows of several parts as a ``pyarrow.Table``, in order. Missing parts are skipped.

        Raises:
            BadInput: A part cannot be read.

        """
        arrow, tables = _pyarrow(), []
        for name in names:
            if self.has(name):
                with parquet.open_file(self._path(name), "delete it and resume the run to measure it again") as file:
                    tables.append(file.read())
        return arrow.concat_tables([_schema(arrow).empty_table(), *tables]).combine_chunks()

    def check(self) -> None:
        """Check that the store can be written.

        Raises:
            Unsupported: pyarrow is not installed.

        """
        _pyarrow()

    def remove_incomplete(self) -> None:
        """Remove incomplete files of runs that were killed.

        Files of the last hour are kept, since they may belong to a run in progress.
        """
        for draft in self.folder.glob(".*.parquet"):
            with suppress(OSError):
                if time() - draft.stat().st_mtime > _HOUR:
                    draft.unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"


def part_name(address: dict[str, Any]) -> str:
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
    kinds = {
        "seed": arrow.int64(),
        "item": arrow.int64(),
        "value": number,
        "curve": arrow.list_(number),
        "seconds": number,
    }
    return arrow.schema([(name, kinds.get(name, arrow.string())) for name in COLUMNS])


def _pyarrow() -> Any:
    return parquet.pyarrow("the store of a benchmark needs", "bench")[0]
