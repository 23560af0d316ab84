"""The store of a job: one Parquet file per chunk, and one writer at a time.

The name of a file has the number of its chunk and a hash of its bytes: ``00000012-3f9a....parquet``. The hash reveals
files that were changed, and two jobs gave the same bits if their files have the same names.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from nibt import parquet
from nibt.errors import BadInput, CannotWrite
from nibt.io import short_digest

_DIGITS = 16
_DRAFT = re.compile(r"\.\d{8}-[0-9a-f]{16}\.\d+-\d+-\d+\.parquet")  # the name of a file while it is written


@dataclass(frozen=True)
class Store:
    """The files of the chunks.

    Attributes:
        folder: The folder of the files.

    """

    folder: Path

    def make(self) -> None:
        """Create the folder.

        Raises:
            CannotWrite: The folder cannot be created.

        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"cannot create the folder {self.folder}: {error.strerror or error}") from error

    def parts(self) -> dict[int, list[Path]]:
        """Return the files of each chunk by its number. An intact chunk has one file."""
        files: dict[int, list[Path]] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            number, _, digest = path.stem.partition("-")
            if number.isdecimal() and len(digest) == _DIGITS:
                files.setdefault(int(number), []).append(path)
        return dict(sorted(files.items()))

    def add(self, number: int, data: bytes) -> None:
        """Write the file of a chunk, and remove its other files.

        Raises:
            CannotWrite: The folder is not writable, or the disk is full.

        """
        path = self.folder / f"{number:08d}-{sha256(data).hexdigest()[:_DIGITS]}.parquet"
        parquet.write(path, data)
        for other in self.folder.glob(f"{number:08d}-*.parquet"):
            if other != path:
                other.unlink()

    def remove_incomplete(self) -> list[str]:
        """Remove files that were changed, and drafts of runs that were killed.

        Call it only with the lock of the folder, since the drafts of a running job cannot be distinguished from others.

        Returns:
            The names of the changed files.

        """
        for draft in self.folder.glob(".*.parquet"):
            if _DRAFT.fullmatch(draft.name):
                with suppress(OSError):
                    draft.unlink()
        removed = []
        for paths in self.parts().values():
            whole = [path for path in paths if is_whole(path)]
            for path in set(paths) - set(whole[:1]):
                path.unlink()
                removed.append(path.name)
        return sorted(removed)


def is_whole(path: Path) -> bool:
    """Return whether the bytes of a file match the hash in its name.

    Raises:
        BadInput: The file cannot be read.

    """
    try:
        return path.stem.partition("-")[2] == short_digest(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no other run writes into it. The system releases the lock if the process dies.

    Raises:
        BadInput: Another process has the lock.
        CannotWrite: The folder is not writable.

    """
    lock = FileLock(folder / ".lock", timeout=0)
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
    created = (folder / "job.json", folder / ".lock", folder / "parts", folder, *folder.parents)
    return {path for path in created if path.exists()}


def undo_start(folder: Path, before: set[Path]) -> None:
    """Remove what a failed start created, and keep the paths that existed ``before``."""
    for path in (folder / "job.json", folder / ".lock"):
        if path not in before:
            path.unlink(missing_ok=True)
    for path in (folder / "parts", folder, *folder.parents):
        if path in before:
            continue
        try:
            path.rmdir()
        except OSError:  # not empty, or gone
            return
