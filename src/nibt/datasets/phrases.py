"""Phrases with boxes: MS-CXR's findings in chest radiographs, or another table of the same layout.

B. Boecking et al., Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing, ECCV 2022.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nibt.datasets._files import format_errors, read_json, table
from nibt.datasets._local import LocalDataset, images_folder
from nibt.datasets.base import ObjectAnnotation, Record
from nibt.errors import BadInput, BadOption

_OFFICIAL = {"image": "path", "phrase": "label_text"}  # the names of the columns in MS-CXR


@dataclass(frozen=True, kw_only=True)
class Phrases(LocalDataset):
    """A pair for each image and phrase, in the order of the table.

    Several rows with the same image and phrase are several boxes of one pair. The whole phrase names each box.

    Attributes:
        table: The name of the table, if the folder has several.
        split: The split, if the table has a column ``split``.
    """

    title = "the data set of phrases (MS-CXR)"
    layout = (
        "a .csv table with the columns image, phrase, x, y, w, h (in MS-CXR: path, label_text) and optionally "
        "image_width, image_height and split, or the .json file of MS-CXR; and its images in images/ or in the same "
        "folder"
    )
    home = "physionet.org, 'MS-CXR: Making the Most of Text Semantics'; its images are from MIMIC-CXR-JPG"
    table: str | None = None
    split: str | None = None

    def read_records(self) -> list[Record]:
        path = self.the_table(self.table, "MS_CXR_Local_Alignment*.csv", "*.csv", "MS_CXR_Local_Alignment*.json")
        read = _annotations(path) if path.suffix == ".json" else table(path, ("x", "y", "w", "h"))
        rows = [(_renamed(row), where) for row, where in read]
        for name, official in _OFFICIAL.items():
            if rows and name not in rows[0][0]:
                raise BadInput(f"{path} has no column {name}, or {official} as in MS-CXR (got {', '.join(rows[0][0])})")
        if self.split is not None:
            splits = sorted({row.get("split", "") for row, _ in rows})
            if self.split not in splits:
                raise BadOption(
                    f"split must be one of {', '.join(splits) or 'none'} in {path.name} (got {self.split!r})"
                )
            rows = [(row, where) for row, where in rows if row["split"] == self.split]
        folder = images_folder(self.root, rows[0][0]["image"] if rows else "")
        entries: dict[tuple[str, str], Record] = {}
        for row, where in rows:
            phrase = row["phrase"].strip()
            annotation = ObjectAnnotation(phrase, _box(row, where), ((0, len(phrase)),))
            key = row["image"], phrase
            first = entries.get(key) or Record((phrase,), str(folder / row["image"]), where, size=_size(row, where))
            entries[key] = replace(first, annotations=(*first.annotations, annotation))
        return list(entries.values())


def _annotations(path: Path) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the annotations of a JSON file in COCO's format as rows of the table, with their locations."""
    with format_errors(str(path)):
        data = read_json(path)
        images = {image["id"]: image for image in data["images"]}
        entries = list(enumerate(data["annotations"]))
    for place, entry in entries:
        where = f"{path.name}, annotation {place}"
        with format_errors(where):
            image = images.get(entry["image_id"])
            if image is None:
                raise BadInput(f"{where}: there is no image with the id {entry['image_id']}")
            values = dict(zip(("x", "y", "w", "h"), entry["bbox"], strict=True))
            sides = {"image_width": image["width"], "image_height": image["height"]}
            split = entry.get("split", image.get("split", ""))
            row = {"path": image["path"], "label_text": entry["label_text"], "split": split, **values, **sides}
            yield {name: str(value) for name, value in row.items()}, where


def _renamed(row: dict[str, str]) -> dict[str, str]:
    return row | {name: row[official] for name, official in _OFFICIAL.items() if name not in row and official in row}


def _box(row: dict[str, str], where: str) -> tuple[float, float, float, float]:
    try:
        return float(row["x"]), float(row["y"]), float(row["w"]), float(row["h"])
    except ValueError as error:
        raise BadInput(f"{where}: x, y, w and h must be numbers ({error})") from error


def _size(row: dict[str, str], where: str) -> tuple[int, int] | None:
    if not (row.get("image_width") and row.get("image_height")):
        return None
    try:
        return int(float(row["image_width"])), int(float(row["image_height"]))
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{where}: image_width and image_height must be whole numbers ({error})") from error
