"""Pairs in files of large data sets: Parquet, the Arrow files of the package datasets, and WebDataset."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from nibt.data import parquet
from nibt.data.images import ImageInput, names_image, read_image
from nibt.datasets._files import SHARDS, format_errors, missing_columns, named_paths, parsed, require_one_of
from nibt.datasets._local import CaptionedDataset, texts
from nibt.datasets._records import CHOOSE, REMEDY, RecordDataset, files_hash
from nibt.datasets._table import TableDataset, caption_text
from nibt.datasets.base import ByteRange, Dataset, ImageLocation, Record, Wanted
from nibt.errors import BadInput, BadOption, import_optional
from nibt.records import JsonObject

_TAIL = 1 << 20  # bytes at the end of a Parquet file, which include its metadata


@dataclass(frozen=True, kw_only=True)
class Parquet(TableDataset, name="parquet"):
    """Parquet files with columns of images and captions.

    The rows of Parquet files. ``folder`` is a file, a folder of files, or a pattern.

    An image is a path relative to the folder of its file, or the bytes of an image file.
    """

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return named_paths(self.folder, (".parquet",))

    def identity(self) -> JsonObject:
        return {"kind": "parquet", "fingerprint": files_hash(self.paths, _TAIL)}

    def column_names(self) -> Sequence[str]:
        return next((parquet.table_schema(path, REMEDY)[0] for path in self.paths), [])

    def quick_length(self) -> int:
        total = 0
        for path in self.paths:
            with parquet.open_file(path, REMEDY) as file:
                self._check(path, file.schema_arrow.names)
                total += file.metadata.num_rows
        return total

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        row = 0
        for path in self.paths:
            with parquet.open_file(path, REMEDY) as file:
                self._check(path, file.schema_arrow.names)
                for group in range(file.metadata.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    if not any(map(wanted, range(row, row + count))):
                        yield from (None for _ in range(count))
                        row += count
                        continue

                    columns = list(dict.fromkeys(self.columns))
                    for batch in file.iter_batches(64, row_groups=[group], columns=columns):
                        for values in batch.to_pylist():
                            where = f"{path.name}, row {row}"
                            yield self.row_record(row, values, path.parent, where) if wanted(row) else None
                            row += 1

    def _check(self, path: Path, names: Sequence[str]) -> None:
        lacking = [name for name in self.columns if name not in names]
        if lacking:
            raise missing_columns(path, lacking, names, CHOOSE)
        self.refuse_objects(names, path.name)


_DESCRIPTIONS = ("dataset_dict.json", "dataset_info.json", "state.json")  # the package writes these into its folders


@dataclass(frozen=True, kw_only=True)
class HuggingFace(CaptionedDataset, TableDataset, name="hugging_face"):
    """Data sets that the package datasets saved to disk, with a column of images and a column of captions.

    The pairs of a saved table, in the order of its rows.

    A caption is a text or a list of texts. It needs the package ``datasets``: ``pip install '.[data]'``.

    Q. Lhoest et al., Datasets: A Community Library for Natural Language Processing, EMNLP 2021.

    Attributes:
        split: The split, if several were saved together.
    """

    title = "A data set saved by the package datasets"
    layout = (
        "the files that save_to_disk of the package datasets writes (dataset_info.json, state.json and Arrow files)"
    )
    home = "load it with the package datasets, and call save_to_disk"
    split: str | None = None

    @cached_property
    def rows(self) -> Any:
        """The table of the package ``datasets``, which decodes an image when its row is read."""
        table = self._saved()
        for option in ("image", "caption", "key", "prompt", "answer"):
            if getattr(self, option) in self.columns:
                require_one_of(option, getattr(self, option), table.column_names)
        self.refuse_objects(table.column_names, str(self.folder))
        return table

    def _saved(self) -> Any:
        """Open the table."""
        package = import_optional("datasets", "this data set needs the package datasets", "data")
        try:
            table = package.load_from_disk(str(self.root))
        except (OSError, ValueError, KeyError) as error:
            raise self.lacking("a saved data set") from error

        if isinstance(table, dict):  # a DatasetDict is one
            if self.split is None:
                raise BadOption(
                    f"the data set was saved with the splits {', '.join(table)}: choose one with split=NAME "
                    "(-D split=NAME in the command)"
                )
            table = table[require_one_of("split", self.split, list(table))]
        elif self.split is not None:
            raise BadOption(f"split must be left out, since the data set was saved without splits (got {self.split!r})")

        return table

    def identity(self) -> JsonObject:
        described = sorted(path for path in self.root.rglob("*.json") if path.name in _DESCRIPTIONS)
        return {"kind": "hugging_face", "split": self.split, "fingerprint": files_hash(described)}

    def column_names(self) -> Sequence[str]:
        return self._saved().column_names

    def quick_length(self) -> int:
        return len(self.rows)

    def read_records(self) -> list[Record]:
        column = self.prompt or self.caption
        captions = self.rows.select_columns([column])[column]
        answers = self.rows.select_columns([self.answer])[self.answer] if self.answer else [None] * len(captions)
        return [
            Record(texts(value, f"row {row}"), where=f"row {row}", answer=answer or None)
            for row, (value, answer) in enumerate(zip(captions, answers, strict=True))
        ]

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        """Yield the records of the rows, with the bytes of their images.

        With another choice than the first caption, all captions are read first.
        """
        if self.choice != "first":
            yield from super().stream(wanted)
            return

        rows = self.rows
        decoded = import_module("datasets").Image
        for name in filter(None, (self.image, self.against)):
            if isinstance(rows.features[name], decoded):
                rows = rows.cast_column(name, decoded(decode=False))

        rows = rows.select_columns(list(dict.fromkeys(self.columns)))
        for row in range(len(rows)):
            if not wanted(row):
                yield None
                continue

            where = f"row {row}"
            try:
                values: Any = rows[row]
            except (OSError, SyntaxError, ValueError) as error:
                values = BadInput(f"{where}: the row cannot be read ({error})")
            yield self.row_record(row, values, self.root, where)

    @cached_property
    def entries(self) -> list[Record]:
        """All records, with ``count`` and ``seed`` applied. The images stay in the table."""
        return self.chosen_records(self.expanded(self.read_records()))

    def content(self, item: int) -> str:
        return Dataset.content(self, item)  # images are in the table, not in files

    def load_image(self, record: Record) -> ImageInput:
        if record.image is not None:
            return RecordDataset.load_image(self, record)

        where = f"{self.folder}, {record.where}"
        try:
            value = self.rows[int(record.where.removeprefix("row "))][self.image]
        except (OSError, SyntaxError, ValueError) as error:
            raise BadInput(f"{where}: the image is missing or damaged ({error})") from error

        if value is None:
            raise BadInput(f"{where}: there is no image")

        try:
            return replace(read_image(value), source=where)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the records and the open table."""
        return {name: value for name, value in super().__getstate__().items() if name != "rows"}

    def missing(self) -> str:
        return ""  # images are in the table, or only the package can find them


_CAPTIONS = ("txt", "caption", "text", "json")
_TAIL_OF_SHARD = 1 << 16


@dataclass(frozen=True, kw_only=True)
class WebDataset(RecordDataset, name="webdataset"):
    """WebDataset shards: tar files with an image and a caption per sample.

    The samples of WebDataset shards. ``folder`` is a shard, a folder of shards, or a pattern.

    A. Aizman, G. Maltby, T. Breuel, High Performance I/O For Large Scale Deep Learning, IEEE Big Data 2019.

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
        return {"kind": "webdataset", "fingerprint": files_hash(self.paths, _TAIL_OF_SHARD)}

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
            default = self.image == "image"
            endings = [name for name in files if (names_image(f"a.{name}") if default else name == self.image)]
            if not endings:
                wanted = "image" if default else f"file that ends in .{self.image}"
                raise BadInput(f"the sample has no {wanted} (it has {', '.join(files)})")
            if len(endings) > 1:
                raise BadInput(
                    f"the sample has several images ({', '.join(endings)}): name the ending of those to explain, such "
                    f"as image={endings[0]}"
                )
            ending = endings[0]

            with format_errors(where):
                caption = caption_text(self._caption(files, where))
            return Record((caption,), files[ending], where=where, row=row, name=f"{path.name}/{key}.{ending}", key=key)
        except BadInput as error:
            return Record.of_error(error, row, where, key)

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
    key = ""
    files = {}
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

            key = sample
            ending = ending.lower()
            if ending in files:
                files.setdefault("", f"{path.name}: {name} occurs twice: give each sample a name of its own")
            else:
                files[ending] = place
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
