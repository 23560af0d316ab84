"""Data sets of phrases that refer to a part of an image: RefCOCO and MS-CXR."""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from nibt.data import parquet
from nibt.datasets._files import format_errors, read_json, readable, table
from nibt.datasets._local import CaptionedDataset, LocalDataset, images_folder, texts
from nibt.datasets._records import REMEDY, split_files
from nibt.datasets._table import TableCell
from nibt.datasets.base import WHOLE_CAPTION, Edges, ObjectAnnotation, Record, edges
from nibt.errors import BadInput, BadOption
from nibt.options import OneOf

_PARTITIONS = {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}
_TABLES = {"refcoco": "RefCOCO", "refcoco+": "RefCOCOplus", "refcocog": "RefCOCOg"}
_COLUMNS = ("image", "answer", "bbox", "segmentation", "iscrowd")
_IMAGES = ("images/mscoco/images/train2014", "images/train2014", "train2014", "images")


@dataclass(frozen=True, kw_only=True)
class RefCOCO(CaptionedDataset, name="refcoco"):
    """RefCOCO, RefCOCO+ and RefCOCOg: expressions that refer to one object of a photograph of COCO.

    The objects of RefCOCO, RefCOCO+ or RefCOCOg, each with the expressions that refer to it.

    The whole expression names its object. The other objects of the image, which only the original files have, are not
    named. Objects are in the order of their file.

    S. Kazemzadeh et al., ReferItGame: Referring to Objects in Photographs of Natural Scenes, EMNLP 2014; L. Yu et al.,
    Modeling Context in Referring Expressions, ECCV 2016; J. Mao et al., Generation and Comprehension of Unambiguous
    Object Descriptions, CVPR 2016.

    Attributes:
        version: The data set: "refcoco", "refcoco+" or "refcocog".
        split: The split: "val", "test", "testA", "testB" or "train".
        partition: The division into splits: "unc" or "google", of RefCOCOg "umd" or "google"; None means the first.
    """

    title = "RefCOCO"
    layout = (
        "refcocog/refs(umd).p (of others refcoco/refs(unc).p or refcoco+/refs(unc).p) with instances.json, and the "
        "images in images/mscoco/images/train2014/, images/train2014/, train2014/ or images/; or the tables of "
        "lmms-lab, as Parquet files data/val-*.parquet or saved by the package datasets"
    )
    home = "github.com/lichengunc/refer with COCO's images of 2014, or lmms-lab/RefCOCOg on the hub"
    version: Annotated[str, OneOf(_PARTITIONS)] = "refcocog"
    split: str = "val"
    partition: str | None = None

    def __post_init__(self) -> None:
        allowed = _PARTITIONS.get(self.version)
        if allowed and self.partition not in (None, *allowed):
            raise BadOption(f"partition of {self.version} must be one of {', '.join(allowed)} (got {self.partition!r})")
        super().__post_init__()

    def read_records(self) -> list[Record]:
        name = f"refs({self.partition or _PARTITIONS[self.version][0]}).p"
        for folder in (self.root / self.version, self.root):
            if (folder / name).is_file():
                return self._of_original(folder / name)

        for folder in (self.root, self.root / _TABLES[self.version], self.root / self.version):
            files = split_files(folder, self.split)
            if files:
                return [record for path in files for record in _of_table(path)]

        raise self.lacking(f"{name} and tables of the split {self.split}")

    def _of_original(self, path: Path) -> list[Record]:
        instances = path.parent / "instances.json"
        if not instances.is_file():
            raise self.lacking(f"instances.json beside {path.name}")

        folder = self.inside(*_IMAGES, what="the folder of images (train2014)")
        with format_errors(str(instances)):
            images, objects = _instances(instances)

        records = []
        with format_errors(str(path)):
            references = read_pickle(path)
            splits = sorted({reference["split"] for reference in references})
            if self.split not in splits:
                raise BadOption(f"split must be one of {', '.join(splits)} in {path.name} (got {self.split!r})")

            for reference in references:
                if reference["split"] != self.split:
                    continue

                number = reference["ann_id"]
                where = f"reference {reference['ref_id']}, image {reference['image_id']}"
                image = images.get(reference["image_id"])
                of_image = objects.get(reference["image_id"], {})
                if image is None or number not in of_image:
                    raise BadInput(f"{where}: instances.json does not have this image with the annotation {number}")

                # the object comes first, named by each expression, then the others of the image
                others = [annotation for annotation_id, annotation in of_image.items() if annotation_id != number]
                record = Record(
                    texts([sentence["sent"] for sentence in reference["sentences"]], where, "a sentence"),
                    str(folder / image["file_name"]),
                    where,
                    annotations=(replace(of_image[number], spans=WHOLE_CAPTION), *others),
                    size=(image["width"], image["height"]),
                )
                records.append(record)

        return records


def _instances(path: Path) -> tuple[dict[int, Any], dict[int, dict[int, ObjectAnnotation]]]:
    """Return the images of COCO by their ids, and of each image its objects by theirs."""
    data = read_json(path)
    images = {image["id"]: image for image in data["images"]}
    categories = {category["id"]: category["name"] for category in data["categories"]}
    objects: dict[int, dict[int, ObjectAnnotation]] = {}
    for entry in data["annotations"]:
        annotation = ObjectAnnotation(
            categories[entry["category_id"]], edges(entry["bbox"]), (), entry.get("segmentation")
        )
        objects.setdefault(entry["image_id"], {})[entry["id"]] = annotation

    return images, objects


def _of_table(path: Path) -> Iterator[Record]:
    """Yield the records of a table of lmms-lab."""
    names, _ = parquet.table_schema(path, REMEDY)
    lacking = [name for name in _COLUMNS if name not in names]
    if lacking:
        raise BadInput(f"{path} has no column {', '.join(lacking)}: it has {', '.join(names)}")

    for row, values in enumerate(parquet.read_columns(path, [*_COLUMNS[1:]], REMEDY)):
        where = f"{path.name}, row {row}"
        with format_errors(where):
            expressions = texts(values["answer"], where, "answer")
            # a crowd has runs instead of a polygon
            outline = [values["segmentation"]] if values["segmentation"] and not values["iscrowd"] else None
            annotation = ObjectAnnotation("object", edges(values["bbox"]), WHOLE_CAPTION, outline)
            yield Record(expressions, TableCell(path, row, "image"), where, name=where, annotations=(annotation,))


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler for lists, tuples, sets, dictionaries, numbers and strings. It imports and calls nothing."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module}.{name}, and only plain data are read")


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain data, such as those that Python 2 wrote."""
    with readable(path), path.open("rb") as stream:
        try:
            return _PlainUnpickler(stream, encoding="utf-8", errors="replace").load()
        except Exception as error:  # a damaged pickle may cause nearly any
            text = f"{path} cannot be read as a pickle of plain data ({error}): use the published file"
            raise BadInput(text) from error


_OFFICIAL = {"image": "path", "phrase": "label_text"}  # the names of the columns in MS-CXR


@dataclass(frozen=True, kw_only=True)
class Phrases(LocalDataset, name="phrases"):
    """Phrases with boxes: MS-CXR's findings in chest radiographs, or another table of the same layout.

    A pair for each image and phrase, in the order of the table.

    Several rows with the same image and phrase are several boxes of one pair. The whole phrase names each box.

    B. Boecking et al., Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing, ECCV 2022.

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
            _check_split(self.split, rows, path)
            rows = [(row, where) for row, where in rows if row["split"] == self.split]

        folder = images_folder(self.root, rows[0][0]["image"] if rows else "")
        entries: dict[tuple[str, str], Record] = {}
        for row, where in rows:
            phrase = row["phrase"].strip()
            annotation = ObjectAnnotation(phrase, _box(row, where), ((0, len(phrase)),))
            size = _size(row, where)
            key = (row["image"], phrase)
            first = entries.get(key) or Record((phrase,), str(folder / row["image"]), where, size=size)
            entries[key] = replace(first, annotations=(*first.annotations, annotation))

        return list(entries.values())


def _renamed(row: dict[str, str]) -> dict[str, str]:
    """Return a row with our names of columns in place of those of MS-CXR."""
    renamed = {name: row[label] for name, label in _OFFICIAL.items() if name not in row and label in row}
    return {**row, **renamed}


def _check_split(split: str, rows: Sequence[tuple[dict[str, str], str]], path: Path) -> None:
    splits = sorted({row.get("split", "") for row, _ in rows})
    if split not in splits:
        raise BadOption(f"split must be one of {', '.join(splits) or 'none'} in {path.name} (got {split!r})")


def _box(row: Mapping[str, str], where: str) -> Edges:
    try:
        return edges(row[side] for side in "xywh")
    except ValueError as error:
        raise BadInput(f"{where}: x, y, w and h must be numbers ({error})") from error


def _size(row: Mapping[str, str], where: str) -> tuple[int, int] | None:
    """Return the width and the height of an image, if its row has both."""
    if not (row.get("image_width") and row.get("image_height")):
        return None

    try:
        return int(float(row["image_width"])), int(float(row["image_height"]))
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{where}: image_width and image_height must be whole numbers ({error})") from error


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
