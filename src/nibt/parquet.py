"""Parquet files that are whole or not there at all: the only home of pyarrow, which others get from here."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from nibt.errors import BadInput, Unsupported
from nibt.io import atomic_write


def pyarrow(needy: str = "Parquet files need", extra: str = "batch") -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        Unsupported: pyarrow is not installed; the message says who is ``needy``, and the extra that brings it.

    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Unsupported(f"{needy} pyarrow: pip install 'nibt[{extra}]'") from error
    return pyarrow, pyarrow.parquet


def encoded(table: Any) -> bytes:
    """The bytes of a table's file: the same for the same table, with one version of pyarrow."""
    stream = BytesIO()
    pyarrow()[1].write_table(table, stream, compression="zstd")
    return stream.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write the bytes of a file, whole or not at all.

    Raises:
        CannotWrite: The disk is full, or the folder is closed.

    """
    with atomic_write(path) as draft:
        draft.write_bytes(data)


@contextmanager
def readable(path: Path, remedy: str) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetFile``, while it is read.

    Raises:
        BadInput: The file is missing or broken; the message ends in the ``remedy``.

    """
    arrow, parquet = pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, arrow.ArrowException) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} cannot be read ({error}): {remedy}") from error
