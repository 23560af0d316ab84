"""Rows of a table: CSV, TSV, JSON Lines, Parquet. Paths of images are from the folder of the table."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from nibt import parquet
from nibt.datasets._files import format_errors, lines, missing_columns, parsed, table_rows
from nibt.errors import BadInput
from nibt.jobs.sources.base import RawRow, Source, Wanted, caption_of, place_of

_TAIL = 1 << 20
_TOGETHER = 64
CHOOSE = "choose by --image, --caption and --key (in Python image=, caption=, key=)"


@dataclass(frozen=True)
class Columns:
    """Which columns hold the image, the caption and, where there is one, the name of a row."""

    image: str = "image"
    caption: str = "caption"
    key: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.image, self.caption, *([self.key] if self.key else []))

    def raw(self, row: int, told: Any, folder: Path, where: str) -> RawRow:
        """The row that a table holds, or the error that it is."""
        if isinstance(told, BadInput):
            return RawRow(row, error=str(told))
        key = ""
        try:
            with format_errors(where):
                key = str(told[self.key]) if self.key else ""
                name, place = place_of(told[self.image], folder, row)
                return RawRow(row, key, name, place, caption_of(told[self.caption]))
        except BadInput as error:
            text = str(error)
            return RawRow(row, key, error=text if text.startswith(where) else f"{where}: {text}")


@dataclass(frozen=True)
class TextTableSource(Source):
    """A CSV or TSV file, or a file with a JSON object a line; ``folder`` is where its paths begin."""

    path: Path
    folder: Path
    columns: Columns

    def facts(self) -> dict[str, Any]:
        return {"kind": "table", "fingerprint": file_hash(self.path)}

    def rows(self, wanted: Wanted) -> Iterator[RawRow | None]:
        for row, (told, where) in enumerate(self._told()):
            yield self.columns.raw(row, self._parsed(told, where), self.folder, where) if wanted(row) else None

    def count(self) -> int:
        return sum(1 for _ in self._told())

    def _told(self) -> Iterable[tuple[Any, str]]:
        if self.path.suffix.lower() in (".csv", ".tsv"):
            return table_rows(self.path, self.columns.names, CHOOSE)
        return lines(self.path)

    def _parsed(self, told: Any, where: str) -> Any:
        try:
            return parsed(told, where) if isinstance(told, str) else told
        except BadInput as error:
            return error


@dataclass(frozen=True)
class ParquetSource(Source):
    """Parquet files, one after the other. An image is a path, or the bytes of its file."""

    paths: Sequence[Path]
    columns: Columns

    def facts(self) -> dict[str, Any]:
        return {"kind": "parquet", "fingerprint": files_hash(self.paths, _TAIL)}  # the tail has the table of contents

    def count(self) -> int:
        total = 0
        for path in self.paths:
            with parquet.readable(path, "give a whole file") as file:
                self._check(path, file.schema_arrow.names)
                total += file.metadata.num_rows
        return total

    def rows(self, wanted: Wanted) -> Iterator[RawRow | None]:
        row = 0
        for path in self.paths:
            with parquet.readable(path, "give a whole file") as file:
                self._check(path, file.schema_arrow.names)
                for group in range(file.metadata.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    if any(map(wanted, range(row, row + count))):
                        yield from self._group(path, file, group, row, wanted)
                    else:
                        yield from (None for _ in range(count))
                    row += count

    def _group(self, path: Path, file: Any, group: int, row: int, wanted: Wanted) -> Iterator[RawRow | None]:
        columns = list(dict.fromkeys(self.columns.names))
        for batch in file.iter_batches(_TOGETHER, row_groups=[group], columns=columns):
            for told in batch.to_pylist():
                where = f"{path.name}, row {row}"
                yield self.columns.raw(row, told, path.parent, where) if wanted(row) else None
                row += 1

    def _check(self, path: Path, there: Sequence[str]) -> None:
        lacking = [name for name in self.columns.names if name not in there]
        if lacking:
            raise missing_columns(path, lacking, there, CHOOSE)


def file_hash(path: Path, tail: int | None = None) -> str:
    """16 hexadecimal digits of a file's bytes, or of its size and its last bytes only.

    Raises:
        BadInput: the file cannot be read.

    """
    size = path.stat().st_size
    start = 0 if tail is None else max(0, size - tail)
    return sha256(f"{size} {file_bytes_hash(path, start)}".encode()).hexdigest()[:16]


def file_bytes_hash(path: Path, start: int = 0) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits.

    Raises:
        BadInput: the file cannot be read.

    """
    digest = sha256()
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def files_hash(paths: Iterable[Path], tail: int | None = None) -> str:
    """The same of several files and their names."""
    told = "".join(f"{path.name} {file_hash(path, tail)}\n" for path in paths)
    return sha256(told.encode()).hexdigest()[:16]
