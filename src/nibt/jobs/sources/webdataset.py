"""Rows of WebDataset shards: tar files in which the files of one sample follow each other and share a name up to its
first dot. Of a plain tar only the headers are read here, and an image where it is explained.

A. Aizman, G. Maltby, T. Breuel, High Performance I/O For Large Scale Deep Learning, IEEE Big Data 2019.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nibt.data.images import names_image
from nibt.datasets._files import format_errors, parsed
from nibt.errors import BadInput
from nibt.jobs.sources.base import ByteRange, Place, RawRow, Source, Wanted, caption_of
from nibt.jobs.sources.tables import Columns, files_hash

_CAPTIONS = ("txt", "caption", "text", "json")
_TAIL = 1 << 16
ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class WebDatasetSource(Source):
    """Shards, one after the other. ``columns.image`` and ``columns.caption`` are the endings of the files; by default
    any image's, and ``txt``, ``caption``, ``text``, or ``json`` with a ``caption`` in it.
    """

    paths: Sequence[Path]
    columns: Columns

    def facts(self) -> dict[str, Any]:
        return {"kind": "webdataset", "fingerprint": files_hash(self.paths, _TAIL)}

    def rows(self, wanted: Wanted) -> Iterator[RawRow | None]:
        row = 0
        for path in self.paths:
            for key, files in _samples(path):
                yield self._raw(row, path, key, files) if wanted(row) else None
                row += 1

    def _raw(self, row: int, path: Path, key: str, files: "dict[str, Place]") -> RawRow:
        where = f"{path.name}, {key}"
        if isinstance(files.get(""), str):
            return RawRow(row, key, error=str(files[""]))
        try:
            ending = self._image(files)
            with format_errors(where):
                caption = caption_of(self._caption(files, where))
            return RawRow(row, key, f"{path.name}/{key}.{ending}", files[ending], caption)
        except BadInput as error:
            text = str(error)
            return RawRow(row, key, error=text if text.startswith(where) else f"{where}: {text}")

    def _image(self, files: "dict[str, Place]") -> str:
        default = self.columns.image == "image"
        for ending in files:
            if names_image(f"a.{ending}") if default else ending == self.columns.image:
                return ending
        wanted = "an image" if default else f"a file that ends in .{self.columns.image}"
        raise BadInput(f"the sample has not {wanted} (it has {', '.join(files)})")

    def _caption(self, files: "dict[str, Place]", where: str) -> Any:
        name = self.columns.caption
        for ending in _CAPTIONS if name == "caption" else (name, "json"):
            if ending in files:
                text = _bytes(files[ending]).decode("utf-8")
                return parsed(text, where)[name] if ending == "json" and name != "json" else text.strip()
        raise BadInput(f"the sample has no caption (it has {', '.join(files)})")


def _samples(path: Path) -> "Iterator[tuple[str, dict[str, Place]]]":
    """The samples of a shard, each with its files by their endings. What follows a break is one sample, an error."""
    key, files = "", {}
    try:
        for name, place in _members(path):
            folder, _, base = name.rpartition("/")
            stem, _, ending = base.partition(".")
            own = f"{folder}/{stem}" if folder else stem
            if not stem or stem.startswith("__"):
                continue
            if own != key and files:
                yield key, files
                files = {}
            key, files[ending.lower()] = own, place
    except (tarfile.TarError, OSError, EOFError) as error:
        if files:
            yield key, files
        yield f"{path.name}, the rest", {"": f"{path} is broken or cut short ({error}): the rest of it cannot be read"}
        return
    if files:
        yield key, files


def _members(path: Path) -> "Iterator[tuple[str, Place]]":
    plain = path.suffix == ".tar"
    size = path.stat().st_size
    with tarfile.open(path, "r:" if plain else "r|*") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # pyright: ignore[reportAttributeAccessIssue]  # it would hold all of them
            if not member.isfile():
                continue
            if plain and member.offset_data + member.size > size:
                raise tarfile.ReadError("unexpected end of data")
            if plain:
                yield member.name, ByteRange(path, member.offset_data, member.size)
            else:
                stream = tar.extractfile(member)
                yield member.name, stream.read() if stream else b""


def _bytes(place: Place) -> bytes:
    return place.read() if isinstance(place, ByteRange) else place if isinstance(place, bytes) else b""
