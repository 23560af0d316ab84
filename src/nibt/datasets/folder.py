"""Your own pairs in pairs.csv or pairs.jsonl, with or without boxes and masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nibt.datasets._files import format_errors
from nibt.datasets._local import LocalDataset, images_folder
from nibt.datasets._table import TextTable, row_values
from nibt.datasets.base import WHOLE_CAPTION, ObjectAnnotation, Record, Wanted, edges
from nibt.errors import BadInput, UnknownName
from nibt.image_files import open_image
from nibt.io import short_digest
from nibt.records import JsonObject


@dataclass(frozen=True, kw_only=True)
class Folder(LocalDataset, TextTable):
    """The pairs of ``pairs.csv`` or ``pairs.jsonl``, in the order of the file.

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
        try:
            if isinstance(values, dict):
                _check_keys(values, (*self.columns, "boxes", "mask"), where)
            if record.error:
                return record
            with format_errors(where):
                boxes = values.get("boxes") or []
                if not isinstance(boxes, list):
                    raise ValueError("boxes must be a list")
                annotations = tuple(_annotation(box, len(record.captions[0]), where) for box in boxes)
                if values.get("mask"):
                    outline = _text(values["mask"], "the path of a mask")
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


def _annotation(values: JsonObject, length: int, where: str) -> ObjectAnnotation:
    _check_keys(values, ("name", "box", "spans", "mask"), where)
    outline = None if values.get("mask") is None else _text(values["mask"], "the path of a mask")
    box = edges(values["box"]) if outline is None or "box" in values else None
    name, spans = _text(values["name"], "the name of a box"), values.get("spans")
    if spans is None:
        return ObjectAnnotation(name, box, outline=outline)
    pairs = tuple((int(first), int(last)) for first, last in spans)
    for first, last in pairs:
        if not 0 <= first < last <= length:
            raise ValueError(
                f"a span must be start and end (exclusive) in the caption of {length} characters (got {first}, {last})"
            )
    return ObjectAnnotation(name, box, pairs, outline)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a text (got {value!r})")
    return value


PLUGIN = Folder
