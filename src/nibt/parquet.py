"""Reading and writing of Parquet files. Only this file imports pyarrow."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from nibt.errors import BadInput, Unsupported
from nibt.io import atomic_write


def pyarrow(needed_by: str = "Parquet files need", extra: str = "batch") -> tuple[Any, Any]:
    """Return the modules ``pyarrow`` and ``pyarrow.parquet``.

    Args:
        needed_by: The beginning of the message if pyarrow is not installed.
        extra: The extra of nibt that installs pyarrow.

    Raises:
        Unsupported: pyarrow is not installed.

    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Unsupported(f"{needed_by} pyarrow: pip install 'nibt[{extra}]'") from error
    return pyarrow, pyarrow.parquet


def encode(table: Any) -> bytes:
    """Return the bytes of a table's file. Equal tables give equal bytes with the same version of pyarrow."""
    stream = BytesIO()
    pyarrow()[1].write_table(table, stream, compression="zstd")
    return stream.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write the bytes of a file, completely or not at all.

    Raises:
        CannotWrite: The folder is missing or not writable, or the disk is full.

    """
    with atomic_write(path) as draft:
        draft.write_bytes(data)


@contextmanager
def open_file(path: Path, remedy: str) -> Iterator[Any]:
    """Open a file as a ``pyarrow.parquet.ParquetFile``.

    Args:
        path: The file.
        remedy: What to do if the file cannot be read, for the message.

    Raises:
        BadInput: The file is missing or damaged.

    """
    arrow, parquet = pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, arrow.ArrowException) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} cannot be read ({error}): {remedy}") from error
