"""Pairs in your own files: a table, a folder with a table, or images with captions in text files."""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from nibt.data.images import names_image, open_image
from nibt.data.objects import read_box
from nibt.datasets._files import lines, natural, row_values, table_heading, table_rows
from nibt.datasets._local import LocalDataset, images_folder
from nibt.datasets._records import CHOOSE, RecordDataset, file_hash
from nibt.datasets._table import TableDataset
from nibt.datasets.base import WHOLE_CAPTION, ObjectAnnotation, Record, Wanted
from nibt.errors import BadInput, UnknownName, reason
from nibt.io import read_text, short_digest
from nibt.records import JsonObject


@dataclass(frozen=True, kw_only=True)
class TextTable(TableDataset):
    """Base class of data sets in a CSV or TSV file, or in a file with a JSON object per line."""

    @property
    @abstractmethod
    def table(self) -> Path:
        """The file."""

    @property
    @abstractmethod
    def images(self) -> Path:
        """The folder that paths of images are relative to."""

    def identity(self) -> JsonObject:
        return {"kind": "table", "fingerprint": file_hash(self.table)}

    def column_names(self) -> Sequence[str]:
        if self.table.suffix.lower() in (".csv", ".tsv"):
            return table_heading(self.table)
        rows = (row_values(row, where) for row, where in lines(self.table))
        return list(next((values for values in rows if isinstance(values, dict)), ()))

    def quick_length(self) -> int:
        return sum(1 for _ in self.rows())

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        for row, (values, where) in enumerate(self.rows()):
            yield self.row_record(row, row_values(values, where), self.images, where) if wanted(row) else None

    def rows(self) -> Iterable[tuple[Any, str]]:
        """Return the rows with their locations. A row of JSON is the text of its line."""
        if self.table.suffix.lower() in (".csv", ".tsv"):
            return table_rows(self.table, self.columns, CHOOSE)
        return lines(self.table)


@dataclass(frozen=True, kw_only=True)
class Table(TextTable, name="table"):
    """Tables (.csv, .tsv or .jsonl) with columns of images and captions.

    The rows of a CSV or TSV file, or of a file with a JSON object per line. ``folder`` is the path of the file.

    Other columns are ignored, but ``mask``, ``boxes`` and ``objects`` are refused, since a table has no objects.
    """

    @property
    def table(self) -> Path:
        return self.root

    @property
    def images(self) -> Path:
        return self.root.parent

    def row_record(self, row: int, values: object, folder: Path, where: str) -> Record:
        names = values if isinstance(values, dict) else ()
        self.refuse_objects(names, where, f"the folder of the table, in which it is named pairs{self.root.suffix}")
        return super().row_record(row, values, folder, where)


@dataclass(frozen=True, kw_only=True)
class Folder(LocalDataset, TextTable, name="folder"):
    """Your own pairs in pairs.csv or pairs.jsonl, with or without boxes and masks.

    The pairs of ``pairs.csv`` or ``pairs.jsonl``, in the order of the file.

    The column ``mask`` has the path, relative to the folder, of an image of the same size whose pixels are 0 outside of
    what the caption describes. A line of JSON may have boxes: ``{"image": "a.jpg", "caption": "a cat", "boxes":
    [{"name": "cat", "box": [left, top, width, height], "spans": [[2, 5]]}]}``, with a ``mask`` beside or in place of
    ``box``. Without ``spans``, the caption is searched for the name and its plural. An empty list means that the
    caption does not name the object.
    """

    title = "A folder of pairs"
    layout = (
        "pairs.csv (columns image, caption and perhaps mask) or pairs.jsonl (an object with image and caption per "
        "line), and its images in images/ or in the same folder"
    )
    home = "you write it yourself; docs/reference/datasets.md has examples"

    def read_records(self) -> list[Record]:
        return [record for record in TextTable.stream(self, lambda row: True) if record is not None]

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        return TextTable.stream(self, wanted)

    @cached_property
    def table(self) -> Path:
        if (self.root / "pairs.csv").exists() and (self.root / "pairs.jsonl").exists():
            raise BadInput(f"{str(self.folder)!r} has both pairs.csv and pairs.jsonl: remove one of them")
        return self.inside("pairs.csv", "pairs.jsonl")

    @cached_property
    def images(self) -> Path:
        """The folder that paths are relative to, determined by the first image."""
        row, where = next(iter(self.rows()), (BadInput(""), ""))
        first = self.row_record(0, row_values(row, where), self.root, where)
        return images_folder(self.root, first.name)

    def chosen_records(self, records: list[Record]) -> list[Record]:
        if not records:
            raise BadInput(f"{self.table} has no pairs: write a row with an image and a caption for each")
        return super().chosen_records(records)

    def row_record(self, row: int, values: object, folder: Path, where: str) -> Record:
        record = super().row_record(row, values, folder, where)
        if not isinstance(values, dict):
            return record

        try:
            if {"caption", "prompt"} <= values.keys():
                raise BadInput(f"{where}: a row has a caption or a prompt, not both: remove one of the two")
            _check_keys(values, (*self.columns, "boxes", "mask"), where)
            if record.error:
                return record

            boxes = values.get("boxes") or []
            if not isinstance(boxes, list):
                raise BadInput(f"{where}: boxes must be a list of objects with name and box (got {boxes!r:.60})")

            length = len(record.captions[0])
            annotations = tuple(_annotation(box, length, f"{where}: boxes[{i}]") for i, box in enumerate(boxes))
            if values.get("mask"):
                outline = _text(values["mask"], f"{where}: mask must be the path of an image")
                annotations += (ObjectAnnotation("", None, WHOLE_CAPTION, outline),)
        except BadInput as error:
            return Record(row=row, where=where, key=record.key, error=str(error))
        return replace(record, annotations=annotations)

    def mask(self, annotation: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        return None if annotation.outline is None else _read_mask(self.root / annotation.outline, size, where)

    def content(self, item: int) -> str:
        digests = (short_digest(path) if path.is_file() else "" for path in self._masks(item))
        return " ".join([super().content(item), *digests])

    def missing(self) -> str:
        absent = [path for item in range(len(self)) for path in self._masks(item) if not path.is_file()]
        return super().missing() or (f"there is no mask {str(absent[0])!r}" if absent else "")

    def _masks(self, item: int) -> list[Path]:
        outlines = (annotation.outline for annotation in self.entries[item].annotations)
        return [self.root / outline for outline in outlines if outline is not None]


def _check_keys(values: JsonObject, known: Sequence[str], where: str) -> None:
    unknown = next((key for key in values if key not in known), None)
    if unknown is not None:
        raise BadInput(f"{where}: {UnknownName('keys', unknown, known)}")


def _read_mask(path: Path, size: tuple[int, int], where: str) -> np.ndarray:
    """Read a mask, which is true where a pixel is not 0."""
    try:
        with open_image(path, str(path)) as image:
            mode = f"{image.format} of mode {image.mode}"
            is_plain = image.format != "JPEG" and image.mode in ("1", "L", "P", "I", "I;16", "RGB")
            pixels: np.ndarray = np.array(image)
    except BadInput as error:
        raise BadInput(f"{where}: the mask cannot be read: {error}") from error

    if not is_plain:
        raise BadInput(f"{where}: the mask {path} must be a PNG, or another image without loss and alpha (got {mode})")

    mask: np.ndarray = pixels.reshape(*pixels.shape[:2], -1).astype(bool).max(-1)
    if mask.shape != size[::-1] or not mask.any():
        width, height = mask.shape[::-1]
        raise BadInput(
            f"{where}: the mask {path} must have the size of the image, {size[0]} x {size[1]}, and pixels that are not "
            f"0 (got {width} x {height} with {mask.sum()})"
        )
    return mask


def _annotation(values: object, length: int, where: str) -> ObjectAnnotation:
    if not isinstance(values, dict):
        raise BadInput(f"{where} must be an object with name and box (got {values!r:.60})")

    _check_keys(values, ("name", "box", "spans", "mask"), where)
    name = _text(values.get("name"), f"{where}.name must be a text")
    mask = values.get("mask")
    outline = None if mask is None else _text(mask, f"{where}.mask must be the path of an image")
    box = read_box(values.get("box"), f"{where}.box") if outline is None or "box" in values else None
    if box is not None and not box[2] * box[3]:
        raise BadInput(
            f"{where}.box must have a width and a height above 0 (got {values['box']!r:.60}): leave out a box of which "
            "only a corner is known"
        )

    spans = values.get("spans")
    for span in spans if isinstance(spans, list) else [spans][: spans is not None]:
        if isinstance(span, list) and [*map(type, span)] == [int, int] and 0 <= span[0] < span[1] <= length:
            continue
        raise BadInput(
            f"{where}.spans must be a list of [start, end], whole numbers with 0 <= start < end <= {length}, the "
            f"length of the caption (got {spans!r:.60})"
        )

    return ObjectAnnotation(name, box, None if spans is None else tuple(map(tuple, spans)), outline)


def _text(value: object, rule: str) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{rule} (got {'nothing' if value is None else repr(value)[:60]})")
    return value


@dataclass(frozen=True, kw_only=True)
class ImageFolder(RecordDataset, name="image_folder"):
    """Folders of images, each with its caption in a text file of the same name.

    The images of a folder with their captions, such as ``a.jpg`` with ``a.txt``.

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
            if not wanted(row):
                yield None
                continue

            text = self._caption_file(name)
            key = Path(name).stem
            try:
                yield Record((read_text(text).strip(),), str(self.root / name), where=name, row=row, name=name, key=key)
            except (OSError, UnicodeDecodeError) as error:
                message = f"{name}: the caption file {text.name} cannot be read ({error})"
                if isinstance(error, FileNotFoundError):
                    message = f"{name}: there is no caption file {text.name}: add it, or remove the image"
                yield Record(row=row, where=name, name=name, key=key, error=message)

    def _caption_file(self, name: str) -> Path:
        return (self.root / name).with_suffix(".txt")

    @cached_property
    def _names(self) -> list[str]:
        try:
            with os.scandir(self.root) as entries:
                names = sorted((entry.name for entry in entries if names_image(entry.name)), key=natural)
        except OSError as error:
            raise BadInput(
                f"{str(self.folder)!r} cannot be read as a folder of images ({reason(error)}): give an existing folder"
            ) from error

        if not names:
            raise BadInput(
                f"{str(self.folder)!r} has no pairs: it must have pairs.csv, pairs.jsonl, .tar or .parquet files, a "
                "saved data set, or images with captions in .txt files of the same names"
            )
        return names
