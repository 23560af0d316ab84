"""Data sets that the package datasets saved to disk, with a column of images and a column of captions.

Q. Lhoest et al., Datasets: A Community Library for Natural Language Processing, EMNLP 2021.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any

from nibt.data.images import ImageInput, read_image
from nibt.datasets._local import CaptionedDataset, texts
from nibt.datasets._records import RecordDataset
from nibt.datasets._table import TableDataset, files_hash
from nibt.datasets.base import Dataset, Record, Wanted
from nibt.errors import BadInput, BadOption, import_optional
from nibt.records import JsonObject

_DESCRIPTIONS = ("dataset_dict.json", "dataset_info.json", "state.json")  # the package writes these into its folders


@dataclass(frozen=True, kw_only=True)
class HuggingFace(CaptionedDataset, TableDataset):
    """The pairs of a saved table, in the order of its rows.

    A caption is a text or a list of texts. It needs the package ``datasets``: ``pip install '.[data]'``.

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
        chosen = {name: getattr(self, name) for name in ("image", "caption", "key", "prompt", "answer")}
        return self._saved([(value, name) for name, value in chosen.items() if value in self.columns])

    def _saved(self, columns: Sequence[tuple[str, str]] = ()) -> Any:
        """Open the table, which must have these columns."""
        package = import_optional("datasets", "this data set needs the package datasets", "data")
        try:
            table = package.load_from_disk(str(self.root))
        except (OSError, ValueError, KeyError) as error:
            raise self.lacking("a saved data set") from error
        if isinstance(table, dict):  # a DatasetDict is one
            table = table[_checked("split", self.split, list(table))]
        elif self.split is not None:
            raise BadOption(f"split must be left out, since the data set was saved without splits (got {self.split!r})")
        for value, option in columns:
            _checked(option, value, table.column_names)
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
        rows, decoded = self.rows, import_module("datasets").Image
        if isinstance(rows.features[self.image], decoded):
            rows = rows.cast_column(self.image, decoded(decode=False))
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


def _checked(option: str, value: str | None, names: list[str]) -> str:
    if value not in names:
        raise BadOption(f"{option} must be one of {', '.join(names)} (got {value!r})")
    return value
