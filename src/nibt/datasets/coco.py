"""COCO: photographs of everyday scenes with five captions each, and a box and a mask per object.

T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014; X. Chen et al., Microsoft COCO Captions: Data
Collection and Evaluation Server, arXiv 1504.00325.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nibt.datasets._files import format_errors, read_json
from nibt.datasets._local import CaptionedDataset
from nibt.datasets.base import ObjectAnnotation, Record, edges
from nibt.records import JsonObject


@dataclass(frozen=True, kw_only=True)
class COCO(CaptionedDataset):
    """The images of COCO with their captions and objects, in the order of the image ids.

    A caption names a category by its exact name or its plural, as whole words in any case: person, persons and people,
    but not man. Longer names come first, so that a hot dog is not a dog. The words then name all objects of the
    category.

    Attributes:
        split: The split in the names of the files (captions_val2017.json).
        objects: Whether objects are read.
    """

    title = "COCO"
    layout = (
        "annotations/captions_SPLIT.json, annotations/instances_SPLIT.json, and the images in SPLIT/, "
        "images/SPLIT/ or images/, where SPLIT is val2017 or another"
    )
    home = "cocodataset.org"
    split: str = "val2017"
    objects: bool = True

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return self.entries[0].names

    def read_records(self) -> list[Record]:
        captions = self._file("captions")
        annotations, names = self._annotations(self._file("instances")) if self.objects else ({}, ())
        with format_errors(str(captions)):
            data = read_json(captions)
            by_image: dict[int, list[str]] = {}
            for annotation in sorted(data["annotations"], key=lambda annotation: annotation["id"]):
                by_image.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
            folder = self.inside(self.split, f"images/{self.split}", "images", what=f"the folder {self.split}")
            return [
                Record(
                    tuple(by_image[image["id"]]),
                    str(folder / image["file_name"]),
                    f"{captions.name}, image {image['id']}",
                    annotations=tuple(annotations.get(image["id"], ())),
                    names=names,
                    size=(image["width"], image["height"]),
                )
                for image in sorted(data["images"], key=lambda image: image["id"])
                if image["id"] in by_image
            ]

    def _file(self, content: str) -> Path:
        name = f"{content}_{self.split}.json"
        return self.inside(f"annotations/{name}", name, what=f"annotations/{name}")

    def _annotations(self, path: Path) -> tuple[dict[int, list[ObjectAnnotation]], tuple[str, ...]]:
        """Return the objects by image id, and the names of all categories."""
        with format_errors(str(path)):
            data: JsonObject = read_json(path)
            names = {category["id"]: category["name"] for category in data["categories"]}
            by_image: dict[int, list[ObjectAnnotation]] = {}
            for entry in sorted(data["annotations"], key=lambda entry: entry["id"]):
                outline = entry.get("segmentation")
                annotation = ObjectAnnotation(names[entry["category_id"]], edges(entry["bbox"]), outline=outline)
                by_image.setdefault(entry["image_id"], []).append(annotation)
            return by_image, tuple(names.values())
