"""Open Images V7: photographs with points that were labeled as on an object or not.

R. Benenson, V. Ferrari, From Colouring-in to Pointillism: Revisiting Semantic Segmentation Supervision, arXiv
2210.14142; A. Kuznetsova et al., The Open Images Dataset V4, IJCV 128, 2020.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from nibt.data.objects import Point
from nibt.datasets._captions import photo_of
from nibt.datasets._files import table
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import ObjectAnnotation, Record
from nibt.errors import BadInput
from nibt.options import OneOf

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_COLUMNS = ("ImageId", "X", "Y", "Label", "EstimatedYesNo")
_NAMES = ("oidv7-class-descriptions.csv", "class-descriptions.csv")
_ANSWERS = {"yes": True, "no": False}


@dataclass(frozen=True, kw_only=True)
class OpenImages(LocalDataset):
    """A pair for each image and each label that at least one point has, in the order of the table.

    The caption is "a photo of a tree", and the label names the object. The object has points instead of a box or a
    mask: those where the label is right, and those where it is not. Points whose estimate is "unsure" are left out.

    Attributes:
        split: The split: "val", "train" or "test".
        both: Whether pairs without a point where the label is wrong are left out; metrics need points of both kinds.
    """

    title = "Open Images (points)"
    layout = (
        "oidv7-SPLIT-annotations-point-labels.csv (columns ImageId, X, Y, Label, EstimatedYesNo), "
        "oidv7-class-descriptions.csv, and the images in SPLIT/, images/SPLIT/ or images/ as IMAGEID.jpg, where SPLIT "
        "is train, val (images also in validation/) or test"
    )
    home = "storage.googleapis.com/openimages/web (V7, point labels)"
    split: Annotated[str, OneOf(_SPLITS)] = "val"
    both: bool = True

    def read_records(self) -> list[Record]:
        path = self.inside(f"oidv7-{self.split}-annotations-point-labels.csv")
        described = table(self.inside(*_NAMES), ("LabelName", "DisplayName"))
        names = {row["LabelName"]: row["DisplayName"].strip().lower() for row, _ in described}
        splits = dict.fromkeys((self.split, _SPLITS[self.split]))
        places = [place for split in splits for place in (split, f"images/{split}")]
        folder = self.inside(*places, "images", what=f"the folder of images {self.split}")

        by_pair: dict[tuple[str, str], tuple[str, list[Point]]] = {}
        for row, where in table(path, _COLUMNS):
            # text labels, which have no class, are in a column that older files lack
            label = row["Label"].strip() or row.get("TextLabel", "").strip()
            _, points = by_pair.setdefault((row["ImageId"].strip(), label), (where, []))
            points += _points(row, where)

        records = []
        for (image, label), (where, points) in by_pair.items():
            are_inside = [point.inside for point in points]
            if not any(are_inside) or (self.both and all(are_inside)):
                continue
            if not label:
                raise BadInput(f"{where}: the point has no label")
            if label.startswith("/") and label not in names:
                raise BadInput(f"{where}: the class descriptions do not have the label {label!r}")

            name = names.get(label, label.lower())  # that of its class, or a text label itself
            caption, spans = photo_of(name)
            objects = (ObjectAnnotation(name, None, spans, points=tuple(points)),)
            records.append(Record((caption,), str(folder / f"{image}.jpg"), where, annotations=objects, label=name))

        return records


def _points(row: dict[str, str], where: str) -> list[Point]:
    """Return the point of a row, or none if its label is unsure."""
    answer = row["EstimatedYesNo"].strip().lower()
    if answer not in (*_ANSWERS, "unsure"):
        raise BadInput(f"{where}: EstimatedYesNo must be yes, no or unsure (got {row['EstimatedYesNo']!r})")

    try:
        x = float(row["X"])
        y = float(row["Y"])
    except ValueError as error:
        raise BadInput(f"{where}: X and Y must be numbers ({error})") from error

    if not all(math.isfinite(share) and 0 <= share <= 1 for share in (x, y)):
        raise BadInput(f"{where}: X and Y must be from 0 to 1, shares of the sides (got {row['X']} and {row['Y']})")
    return [] if answer == "unsure" else [Point(x, y, _ANSWERS[answer])]
