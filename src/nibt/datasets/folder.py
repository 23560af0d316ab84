"""Your own pairs: a folder with ``pairs.csv`` or ``pairs.jsonl``, and the images that it names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nibt.datasets._files import format_errors, lines, parsed, table
from nibt.datasets._local import LocalDataset, ObjectAnnotation, Record
from nibt.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Folder(LocalDataset):
    """Pairs in the order of the file.

    Each line of JSON may bring boxes: ``{"image": "a.jpg", "caption": "a cat", "boxes": [{"name": "cat", "box": [left,
    top, width, height], "spans": [[2, 5]]}]}``. Without spans the name is looked for in the caption, itself or its
    plural; with an empty list the caption does not name it.
    """

    about = "your own pairs: pairs.csv or pairs.jsonl with image and caption, with or without boxes"
    title = "A folder of pairs"
    layout = "pairs.csv (columns image and caption) or pairs.jsonl (an object with image and caption a line), and the images that it names, in images/ or beside it"  # noqa: E501
    home = "you write it yourself; docs/datasets.md shows both"

    def read(self) -> list[Record]:
        if (self.root / "pairs.csv").exists() and (self.root / "pairs.jsonl").exists():
            raise BadInput(f"{str(self.folder)!r} holds both pairs.csv and pairs.jsonl: leave one")
        path = self.inside("pairs.csv", "pairs.jsonl")
        rows: Iterable[tuple[Any, str]] = (
            table(path, ("image", "caption"))
            if path.suffix == ".csv"
            else [(parsed(line, where), where) for line, where in lines(path)]
        )
        told = [_told(row, where) for row, where in rows]
        folder = self.images_of(name for name, *_ in told)
        return [Record(folder / name, (caption,), where, marks) for name, caption, where, marks in told]


def _told(row: Any, where: str) -> tuple[str, str, str, tuple[ObjectAnnotation, ...]]:
    with format_errors(where):
        image, caption = row["image"], row["caption"]
        if not isinstance(image, str) or not image or not isinstance(caption, str):
            raise ValueError("image and caption must be texts")
        boxes = row.get("boxes") or []
        if not isinstance(boxes, list):
            raise ValueError("boxes must be a list")
        return image, caption, where, tuple(_mark(box, len(caption)) for box in boxes)


def _mark(told: dict[str, Any], length: int) -> ObjectAnnotation:
    left, top, width, height = map(float, told["box"])
    spans = told.get("spans")
    if spans is None:
        return ObjectAnnotation(_text(told["name"]), (left, top, width, height))
    pairs = tuple((int(first), int(last)) for first, last in spans)
    for first, last in pairs:
        if not 0 <= first < last <= length:
            raise ValueError(
                f"a span is the first and the last-plus-one of the caption's {length} characters (got {first}, {last})"
            )
    return ObjectAnnotation(_text(told["name"]), (left, top, width, height), pairs)


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"the name of a box must be a text (got {name!r})")
    return name


PLUGIN = Folder
