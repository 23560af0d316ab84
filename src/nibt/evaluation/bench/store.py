"""The store: a folder to which Parquet files are added, one for each finished chunk.

A file is written whole or not at all and is named by the hash of what it holds, so a run that was killed goes on with
the chunks whose files are lacking: nothing is lost and nothing is there twice.
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

_TEXTS = (
    "model",
    "weights_hash",
    "method",
    "variant",
    "options",
    "resolved",
    "method_label",
    "target",
    "data",
    "side",
    "metric",
    "metric_options",
    "measured",
    "metric_label",
    "error",
)
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
"""A measured number with its whole address. ``options`` are those of the plan, ``resolved`` all that the method had."""
TIMES = ("seconds",)
"""What differs between two runs of the same plan."""
_HOUR = 3600.0


@dataclass(frozen=True)
class Store:
    """A folder of parts."""

    folder: Path

    def has(self, name: str) -> bool:
        """Whether the part of a chunk is there."""
        return self._path(name).is_file()

    def add(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Write the part of a chunk.

        Raises:
            CannotWrite: The disk is full, or the folder is closed.

        """
        arrow = _pyarrow()
        parquet.write(self._path(name), parquet.encoded(arrow.Table.from_pylist(rows, schema=_schema(arrow))))

    def table(self, names: Iterable[str]) -> Any:
        """The rows of these parts, in their order, as a ``pyarrow.Table``; those that are lacking are left out.

        Raises:
            BadInput: A part cannot be read.

        """
        arrow, found = _pyarrow(), []
        for name in names:
            if self.has(name):
                with parquet.readable(self._path(name), "delete it, and the run measures its chunk again") as file:
                    found.append(file.read())
        return arrow.concat_tables([_schema(arrow).empty_table(), *found]).combine_chunks()

    def check(self) -> None:
        """Refuse to begin where nothing could be written.

        Raises:
            Unsupported: pyarrow is not installed.

        """
        _pyarrow()

    def sweep(self) -> None:
        """Remove the drafts of runs that were killed while they wrote; those of the last hour may be another's."""
        for draft in self.folder.glob(".*.parquet"):
            with suppress(OSError):
                if time() - draft.stat().st_mtime > _HOUR:
                    draft.unlink()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"


def part_name(address: dict[str, Any]) -> str:
    """The name of a chunk's part: 32 hexadecimal digits of its address."""
    return sha256(json.dumps(address, sort_keys=True, default=str).encode()).hexdigest()[:32]


def fingerprint(table: Any) -> str:
    """64 hexadecimal digits that are the same for the same rows, bit by bit, whatever the times."""
    digest = sha256()
    for name in table.column_names:
        if name not in TIMES:
            digest.update(json.dumps([name, [_bits(value) for value in table[name].to_pylist()]]).encode())
    return digest.hexdigest()


def _bits(value: Any) -> Any:
    if isinstance(value, list):
        return [_bits(one) for one in value]
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
    return arrow.schema([(name, arrow.string() if name in _TEXTS else kinds[name]) for name in COLUMNS])


def _pyarrow() -> Any:
    return parquet.pyarrow("the store of a benchmark needs", "bench")[0]
