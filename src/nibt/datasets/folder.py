"""Your own pairs in pairs.csv or pairs.jsonl, with or without boxes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nibt.datasets._files import format_errors
from nibt.datasets._local import LocalDataset, images_folder
from nibt.datasets._table import TextTable, row_values
from nibt.datasets.base import ObjectAnnotation, Record, Wanted, edges
from nibt.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Folder(LocalDataset, TextTable):
    """The pairs of ``pairs.csv`` or ``pairs.jsonl``, in the order of the file.

    A line of JSON may have boxes: ``{"image": "a.jpg", "caption": "a cat", "boxes": [{"name": "cat", "box": [left, top,
    width, height], "spans": [[2, 5]]}]}``. Without ``spans``, the caption is searched for the name and its plural. An
    empty list means that the caption does not name the object.
    """

    title = "A folder of pairs"
    layout = (
        "pairs.csv (columns image and caption) or pairs.jsonl (an object with image and caption per line), and its "
        "images in images/ or in the same folder"
    )
    home = "you write it yourself; docs/reference/datasets.md has examples"

    def read_records(self) -> list[Record]:
        return [record for record in TextTable.stream(self, lambda row: True) if record is not None]

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        return TextTable.stream(self, wanted)

    @cached_property
    def table(self) -> Path:
        """The file with the pairs."""
        if (self.root / "pairs.csv").exists() and (self.root / "pairs.jsonl").exists():
            raise BadInput(f"{str(self.folder)!r} has both pairs.csv and pairs.jsonl: remove one of them")
        return self.inside("pairs.csv", "pairs.jsonl")

    @cached_property
    def images(self) -> Path:
        """The folder that paths are relative to, determined by the first image."""
        row, where = next(iter(self.rows()), (BadInput(""), ""))
        first = self.row_record(0, row_values(row, where), self.root, where)
        return images_folder(self.root, first.name)

    def row_record(self, row: int, values: Any, folder: Path, where: str) -> Record:
        record = super().row_record(row, values, folder, where)
        if record.error:
            return record
        try:
            with format_errors(where):
                boxes = values.get("boxes") or []
                if not isinstance(boxes, list):
                    raise ValueError("boxes must be a list")
                annotations = tuple(_annotation(box, len(record.captions[0])) for box in boxes)
        except BadInput as error:
            return Record(row=row, where=where, key=record.key, error=str(error))
        return replace(record, annotations=annotations)


def _annotation(values: dict[str, Any], length: int) -> ObjectAnnotation:
    box = edges(values["box"])
    spans = values.get("spans")
    if spans is None:
        return ObjectAnnotation(_text(values["name"]), box)
    pairs = tuple((int(first), int(last)) for first, last in spans)
    for first, last in pairs:
        if not 0 <= first < last <= length:
            raise ValueError(
                f"a span must be start and end (exclusive) in the caption of {length} characters (got {first}, {last})"
            )
    return ObjectAnnotation(_text(values["name"]), box, pairs)


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"the name of a box must be a text (got {name!r})")
    return name


PLUGIN = Folder
