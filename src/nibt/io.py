"""Writing files so that they are whole or not there at all."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path

from nibt.errors import CannotWrite


def check_writable(path: Path) -> None:
    """Refuse an output whose folder is missing or closed, before any work is done.

    Raises:
        CannotWrite: The folder does not exist or cannot be written, or the path is a folder.

    """
    folder = path.parent
    if not folder.is_dir():
        raise CannotWrite(f"cannot write {path.name}: the folder {folder} does not exist; create it first")
    if path.is_dir():
        raise CannotWrite(f"cannot write {path}: it is a folder; give the name of a file in it")
    if not os.access(folder, os.W_OK):
        raise CannotWrite(f"cannot write {path.name}: the folder {folder} cannot be written; choose another")


def short_digest(path: str | Path) -> str:
    """16 hexadecimal digits of the SHA-256 of a file's bytes.

    Raises:
        OSError: The file cannot be read.

    """
    with open(path, "rb") as stream:
        return file_digest(stream, "sha256").hexdigest()[:16]


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        CannotWrite: The folder is missing or closed, or the disk is full.

    """
    check_writable(path)
    draft = path.with_name(f".{path.stem[:40]}.{os.getpid()}-{threading.get_ident()}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}; nothing was left there") from error
    finally:
        draft.unlink(missing_ok=True)
