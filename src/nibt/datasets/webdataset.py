"""WebDataset shards: tar files with an image and a caption per sample.

A. Aizman, G. Maltby, T. Breuel, High Performance I/O For Large Scale Deep Learning, IEEE Big Data 2019.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nibt.data.images import names_image
from nibt.datasets._files import SHARDS, format_errors, named_paths, parsed
from nibt.datasets._records import RecordDataset
from nibt.datasets._table import caption_text, files_hash
from nibt.datasets.base import ByteRange, ImageLocation, Record, Wanted
from nibt.errors import BadInput
from nibt.records import JsonObject

_CAPTIONS = ("txt", "caption", "text", "json")
_TAIL = 1 << 16


@dataclass(frozen=True, kw_only=True)
class WebDataset(RecordDataset):
    """The samples of WebDataset shards. ``folder`` is a shard, a folder of shards, or a pattern.

    Attributes:
        image: The ending of image files; "image" means that of any image format.
        caption: The ending of caption files, or the key in a ``json`` file; "caption" means ``txt``, ``caption``,
            ``text``, or the key ``caption`` in a ``json`` file.
    """

    image: str = "image"
    caption: str = "caption"

    @property
    def paths(self) -> list[Path]:
        """The shards, in order."""
        return named_paths(self.folder, SHARDS)

    def identity(self) -> JsonObject:
        return {"kind": "webdataset", "fingerprint": files_hash(self.paths, _TAIL)}

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        row = 0
        for path in self.paths:
            for key, files in _samples(path):
                yield self._record(row, path, key, files) if wanted(row) else None
                row += 1

    def _record(self, row: int, path: Path, key: str, files: "dict[str, ImageLocation]") -> Record:
        where = f"{path.name}, {key}"
        if isinstance(files.get(""), str):
            return Record(row=row, where=where, key=key, error=str(files[""]))
        try:
            ending = self._image(files)
            with format_errors(where):
                caption = caption_text(self._caption(files, where))
            return Record((caption,), files[ending], where, row, f"{path.name}/{key}.{ending}", key)
        except BadInput as error:
            return Record.of_error(error, row, where, key)

    def _image(self, files: "dict[str, ImageLocation]") -> str:
        default = self.image == "image"
        for ending in files:
            if names_image(f"a.{ending}") if default else ending == self.image:
                return ending
        wanted = "image" if default else f"file that ends in .{self.image}"
        raise BadInput(f"the sample has no {wanted} (it has {', '.join(files)})")

    def _caption(self, files: "dict[str, ImageLocation]", where: str) -> Any:
        name = self.caption
        for ending in _CAPTIONS if name == "caption" else (name, "json"):
            if ending in files:
                place = files[ending]
                data = place.read() if isinstance(place, ByteRange) else place
                assert isinstance(data, bytes)
                text = data.decode("utf-8")
                return parsed(text, where)[name] if ending == "json" and name != "json" else text.strip()
        raise BadInput(f"the sample has no caption (it has {', '.join(files)})")


def _samples(path: Path) -> "Iterator[tuple[str, dict[str, ImageLocation]]]":
    """Yield the samples of a shard, each with its files by their endings; in a damaged shard the last has the error."""
    key, files = "", {}
    try:
        for name, place in _members(path):
            folder, _, base = name.rpartition("/")
            stem, _, ending = base.partition(".")
            sample = f"{folder}/{stem}" if folder else stem
            if not stem or stem.startswith("__"):
                continue
            if sample != key and files:
                yield key, files
                files = {}
            key, files[ending.lower()] = sample, place
    except (tarfile.TarError, OSError, EOFError) as error:
        if files:
            yield key, files
        yield f"{path.name}, the rest", {"": f"{path} is damaged or truncated ({error}): its rest cannot be read"}
        return
    if files:
        yield key, files


def _members(path: Path) -> "Iterator[tuple[str, ImageLocation]]":
    plain = path.suffix == ".tar"
    size = path.stat().st_size
    with tarfile.open(path, "r:" if plain else "r|*") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # pyright: ignore[reportAttributeAccessIssue]  # else all members are kept in memory
            if not member.isfile():
                continue
            if plain and member.offset_data + member.size > size:
                raise tarfile.ReadError("unexpected end of data")
            if plain:
                yield member.name, ByteRange(path, member.offset_data, member.size)
            else:
                stream = tar.extractfile(member)
                yield member.name, stream.read() if stream else b""
