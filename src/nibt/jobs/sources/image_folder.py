"""Rows of a folder of images that have their captions in text files of the same name beside them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from nibt.data.images import names_image
from nibt.datasets._files import natural
from nibt.errors import BadInput
from nibt.jobs.sources.base import RawRow, Source, Wanted


@dataclass(frozen=True)
class ImageFolderSource(Source):
    """``a.jpg`` with ``a.txt``, by their names, numbers in order. The names, alone, are kept in memory."""

    folder: Path

    def facts(self) -> dict[str, Any]:
        digest = sha256()
        for name in self._images:
            digest.update(f"{name}\n".encode())
            digest.update(self._text(name).read_bytes() if self._text(name).is_file() else b"")
        return {"kind": "images", "fingerprint": digest.hexdigest()[:16]}

    def count(self) -> int:
        return len(self._images)

    def rows(self, wanted: Wanted) -> Iterator[RawRow | None]:
        for row, name in enumerate(self._images):
            yield self._raw(row, name) if wanted(row) else None

    def _raw(self, row: int, name: str) -> RawRow:
        text = self._text(name)
        try:
            caption = text.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            return RawRow(
                row, Path(name).stem, name, error=f"{name}: its caption, {text.name}, cannot be read ({error})"
            )
        return RawRow(row, Path(name).stem, name, str(self.folder / name), caption)

    def _text(self, name: str) -> Path:
        return (self.folder / name).with_suffix(".txt")

    @cached_property
    def _images(self) -> list[str]:
        with os.scandir(self.folder) as entries:
            found = sorted((entry.name for entry in entries if names_image(entry.name)), key=natural)
        if not found:
            raise BadInput(
                f"{str(self.folder)!r} holds no pairs: expected pairs.csv, pairs.jsonl, .tar or .parquet "
                "files, a saved data set, or images with a .txt beside each"
            )
        return found
