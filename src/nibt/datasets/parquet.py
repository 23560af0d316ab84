"""Parquet files with columns of images and captions.

An image is a path relative to the folder of its file, or the bytes of an image file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nibt.data import parquet
from nibt.datasets._files import missing_columns, named_paths
from nibt.datasets._table import CHOOSE, REMEDY, TableDataset, files_hash
from nibt.datasets.base import Record, Wanted
from nibt.records import JsonObject

_TAIL = 1 << 20  # bytes at the end of a Parquet file, which include its metadata
_ROWS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Parquet(TableDataset):
    """The rows of Parquet files. ``folder`` is a file, a folder of files, or a pattern."""

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return named_paths(self.folder, (".parquet",))

    def identity(self) -> JsonObject:
        return {"kind": "parquet", "fingerprint": files_hash(self.paths, _TAIL)}

    def column_names(self) -> Sequence[str]:
        return next((parquet.table_schema(path, REMEDY)[0] for path in self.paths), [])

    def quick_length(self) -> int:
        total = 0
        for path in self.paths:
            with parquet.open_file(path, REMEDY) as file:
                self._check(path, file.schema_arrow.names)
                total += file.metadata.num_rows
        return total

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        row = 0
        for path in self.paths:
            with parquet.open_file(path, REMEDY) as file:
                self._check(path, file.schema_arrow.names)
                for group in range(file.metadata.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    if any(map(wanted, range(row, row + count))):
                        yield from self._group(path, file, group, row, wanted)
                    else:
                        yield from (None for _ in range(count))
                    row += count

    def _group(self, path: Path, file: Any, group: int, row: int, wanted: Wanted) -> Iterator[Record | None]:
        columns = list(dict.fromkeys(self.columns))
        for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
            for values in batch.to_pylist():
                where = f"{path.name}, row {row}"
                yield self.row_record(row, values, path.parent, where) if wanted(row) else None
                row += 1

    def _check(self, path: Path, names: Sequence[str]) -> None:
        lacking = [name for name in self.columns if name not in names]
        if lacking:
            raise missing_columns(path, lacking, names, CHOOSE)
