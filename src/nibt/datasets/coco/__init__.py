"""COCO: photographs of everyday scenes with five captions each, and a box and a mask per object.

T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014; X. Chen et al., Microsoft COCO Captions: Data
Collection and Evaluation Server, arXiv 1504.00325.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from nibt.datasets._captioned import CaptionedDataset
from nibt.datasets._files import format_errors, read_json
from nibt.datasets.base import ObjectAnnotation, Record
from nibt.datasets.coco.masks import decoded


@dataclass(frozen=True, kw_only=True)
class COCO(CaptionedDataset):
    """Pairs by the numbers of the images; captions, and objects, by theirs.

    A caption names a category by its exact name or its plural, whole words, capitals or not: person, persons and people
    but not man; a longer name goes first, so that a hot dog is no dog. All objects of the category are then named by
    it. ``split`` is what the files are called by (captions_val2017.json). ``objects=False`` reads captions alone.
    """

    title = "COCO"
    layout = (
        "annotations/captions_SPLIT.json, annotations/instances_SPLIT.json, and the images in SPLIT/, "
        "images/SPLIT/ or images/, where SPLIT is val2017 or another"
    )
    home = "cocodataset.org"
    split: str = "val2017"
    objects: bool = True

    @override
    def read_records(self) -> list[Record]:
        captions = self._file("captions")
        marks, names = self._marks(self._file("instances")) if self.objects else ({}, ())
        with format_errors(str(captions)):
            data = read_json(captions)
            spoken: dict[int, list[str]] = {}
            for one in sorted(data["annotations"], key=lambda one: one["id"]):
                spoken.setdefault(one["image_id"], []).append(one["caption"].strip())
            folder = self.inside(self.split, f"images/{self.split}", "images", what=f"the folder {self.split}")
            return [
                Record(
                    tuple(spoken[image["id"]]),
                    str(folder / image["file_name"]),
                    f"{captions.name}, image {image['id']}",
                    annotations=tuple(marks.get(image["id"], ())),
                    names=names,
                    size=(image["width"], image["height"]),
                )
                for image in sorted(data["images"], key=lambda image: image["id"])
                if image["id"] in spoken
            ]

    @override
    def mask(self, mark: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        with format_errors(where):
            return decoded(mark.outline, size, where) if mark.outline else None

    def _file(self, kind: str) -> Path:
        name = f"{kind}_{self.split}.json"
        return self.inside(f"annotations/{name}", name, what=f"annotations/{name}")

    def _marks(self, path: Path) -> tuple[dict[int, list[ObjectAnnotation]], tuple[str, ...]]:
        """The objects of each image, and the names of all categories."""
        with format_errors(str(path)):
            data: dict[str, Any] = read_json(path)
            names = {category["id"]: category["name"] for category in data["categories"]}
            marks: dict[int, list[ObjectAnnotation]] = {}
            for one in sorted(data["annotations"], key=lambda one: one["id"]):
                left, top, width, height = map(float, one["bbox"])
                mark = ObjectAnnotation(
                    names[one["category_id"]], (left, top, width, height), outline=one.get("segmentation")
                )
                marks.setdefault(one["image_id"], []).append(mark)
            return marks, tuple(names.values())


PLUGIN = COCO
