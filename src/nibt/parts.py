"""Folders of finished parts: Parquet files whose names have a digest of their bytes, ``NAME-DIGEST.parquet``.

Jobs and benchmarks write them. The digest is compared wherever a part is opened, so that no part that was changed or
replaced is read; and only files that have the project's full name and the digest of their bytes are ever removed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any

from nibt import parquet
from nibt.errors import BadInput, WouldOverwrite
from nibt.io import DIGITS, is_draft_of, short_digest


@dataclass(frozen=True)
class Parts:
    """The parts in a folder.

    Attributes:
        folder: The folder.
        names: The pattern of the names of parts.
        remedy: What to do if a part cannot be read, for messages.

    """

    folder: Path
    names: str
    remedy: str

    def files(self) -> dict[str, list[Path]]:
        """Return the files of each part by its name, in order. An intact part has one file."""
        files: dict[str, list[Path]] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            name = self._name(path.stem)
            if name is not None:
                files.setdefault(name, []).append(path)
        return files

    def add(self, name: str, data: bytes) -> None:
        """Write a part, and remove its other files that nibt wrote."""
        path = self.folder / f"{name}-{sha256(data).hexdigest()[:DIGITS]}.parquet"
        parquet.write(path, data)
        for other in self.files().get(name, []):
            if other != path and is_whole(other):
                other.unlink()

    @contextmanager
    def open(self, path: Path) -> Iterator[Any]:
        """Open a part as a ``pyarrow.parquet.ParquetFile``."""
        if not is_whole(path):
            raise BadInput(f"{path} was changed after it was written: {self.remedy}")
        with parquet.open_file(path, self.remedy) as file:
            yield file

    def repair(self, older: float = 0.0) -> None:
        """Remove drafts of runs that were killed, and all but one of several files of a part."""
        for draft in self.folder.glob(".*.parquet"):
            if is_draft_of(draft, lambda stem: self._name(stem) is not None):
                with suppress(OSError):
                    if time() - draft.stat().st_mtime >= older:
                        draft.unlink()
        files = self.files()
        changed = [path for paths in files.values() for path in paths if not is_whole(path)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise WouldOverwrite(f"{changed[0]}{more} was changed after it was written: {self.remedy}")
        for _, *others in files.values():
            for path in others:
                path.unlink()

    def _name(self, stem: str) -> str | None:
        match = re.fullmatch(rf"({self.names})-[0-9a-f]{{{DIGITS}}}", stem)
        return match and match[1]


def is_whole(path: Path) -> bool:
    """Return whether the bytes of a file match the digest in its name."""
    try:
        return path.stem.rpartition("-")[2] == short_digest(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
