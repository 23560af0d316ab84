"""The store of a job: one Parquet file per chunk (``nibt.parts``), and one writer at a time.

The name of a file has the number of its chunk and a digest of its bytes: ``00000012-3f9a....parquet``. So two jobs gave
the same bits if their files have the same names.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nibt.errors import BadInput, CannotWrite
from nibt.parts import Parts

_LOCK = ".nibt.lock"


@dataclass(frozen=True)
class Store:
    """The files of the chunks.

    Attributes:
        folder: The folder of the files.

    """

    folder: Path

    def make(self) -> None:
        """Create the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"cannot create the folder {self.folder}: {error.strerror or error}") from error

    @property
    def _parts(self) -> Parts:
        return Parts(self.folder, r"\d{8,}", "move it away, and run the job again to replace it")

    def parts(self) -> dict[int, list[Path]]:
        """Return the files of each chunk by its number. An intact chunk has one file."""
        return dict(sorted((int(name), paths) for name, paths in self._parts.files().items()))

    def add(self, number: int, data: bytes) -> None:
        """Write the file of a chunk, and remove its other files."""
        self._parts.add(f"{number:08d}", data)

    def open(self, path: Path) -> AbstractContextManager[Any]:
        """Open the file of a chunk, whose bytes must match the digest in its name."""
        return self._parts.open(path)

    def repair(self) -> None:
        """Remove drafts of killed runs, and all but one of equal files. Call it only with the folder's lock."""
        self._parts.repair()


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no other run writes into it. The system releases the lock if the process dies."""
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BadInput(
            f"another run is writing into {str(folder)!r}: wait until it ends, or choose a new folder"
        ) from error
    except OSError as error:
        raise CannotWrite(f"cannot write into {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def existing_paths(folder: Path) -> set[Path]:
    """Return those files and folders that exist already, of all that the start of a job creates."""
    created = (folder / "job.json", folder / _LOCK, folder / "parts", folder, *folder.parents)
    return {path for path in created if path.exists()}


def undo_start(folder: Path, before: set[Path]) -> None:
    """Remove what a failed start created, and keep the paths that existed ``before``."""
    for path in (folder / "job.json", folder / _LOCK):
        if path not in before:
            path.unlink(missing_ok=True)
    for path in (folder / "parts", folder, *folder.parents):
        if path in before:
            continue
        try:
            path.rmdir()
        except OSError:  # not empty, or gone
            return
