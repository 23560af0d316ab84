"""Folders of images, each with its caption in a text file of the same name."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from nibt.data.images import names_image
from nibt.datasets._files import natural
from nibt.datasets._records import RecordDataset
from nibt.datasets.base import Record, Wanted
from nibt.errors import BadInput
from nibt.io import read_text
from nibt.records import JsonObject


@dataclass(frozen=True, kw_only=True)
class ImageFolder(RecordDataset):
    """The images of a folder with their captions, such as ``a.jpg`` with ``a.txt``.

    They are in natural order of their names. Only the names are kept in memory.
    """

    def identity(self) -> JsonObject:
        digest = sha256()
        for name in self._names:
            text = self._caption_file(name)
            digest.update(f"{name}\n".encode())
            digest.update(text.read_bytes() if text.is_file() else b"")
        return {"kind": "images", "fingerprint": digest.hexdigest()[:16]}

    def quick_length(self) -> int:
        return len(self._names)

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        for row, name in enumerate(self._names):
            yield self._record(row, name) if wanted(row) else None

    def _record(self, row: int, name: str) -> Record:
        text, key = self._caption_file(name), Path(name).stem
        try:
            caption = read_text(text).strip()
        except (OSError, UnicodeDecodeError) as error:
            message = f"{name}: the caption file {text.name} cannot be read ({error})"
            return Record(row=row, where=name, name=name, key=key, error=message)
        return Record((caption,), str(self.root / name), name, row, name, key)

    def _caption_file(self, name: str) -> Path:
        return (self.root / name).with_suffix(".txt")

    @cached_property
    def _names(self) -> list[str]:
        with os.scandir(self.root) as entries:
            names = sorted((entry.name for entry in entries if names_image(entry.name)), key=natural)
        if not names:
            raise BadInput(
                f"{str(self.folder)!r} has no pairs: it must have pairs.csv, pairs.jsonl, .tar or .parquet files, a "
                "saved data set, or images with captions in .txt files of the same names"
            )
        return names
