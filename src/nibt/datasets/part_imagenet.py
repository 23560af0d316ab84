"""PartImageNet: images of 158 classes of ImageNet with masks of the parts of their objects.

J. He et al., PartImageNet: A Large, High-Quality Dataset of Parts, ECCV 2022.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nibt.datasets._captions import photo_of
from nibt.datasets._files import format_errors, read_json
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import ObjectAnnotation, Record, edges
from nibt.errors import BadInput
from nibt.records import JsonObject

_WORDS = {"tier": "tire", "aeroplane": "airplane"}  # "Tier" is a misspelling in the published names


@dataclass(frozen=True, kw_only=True)
class PartImageNet(LocalDataset):
    """A pair for each image and each kind of part in it, in the order of the image ids.

    The caption is "a photo of a quadruped head". The name of the part, "head", names all masks of this kind; the other
    parts of the image are not named.

    Attributes:
        split: The split: "val", "train" or "test".
        parts: Whether there is a pair for each kind of part. Otherwise there is a pair for each image, "a photo of a
            quadruped", and its last word names all parts.
    """

    title = "PartImageNet"
    layout = "annotations/SPLIT/SPLIT.json (or annotations/SPLIT.json, or SPLIT.json), and the images in images/SPLIT/"
    home = "github.com/TACJu/PartImageNet"
    split: str = "val"
    parts: bool = True

    def read_records(self) -> list[Record]:
        name = f"{self.split}.json"
        path = self.inside(f"annotations/{self.split}/{name}", f"annotations/{name}", name, what=name)
        folder = self.inside(f"images/{self.split}", self.split, what=f"the folder images/{self.split}")
        with format_errors(str(path)):
            data: JsonObject = read_json(path)
            categories = {category["id"]: _names(category) for category in data["categories"]}
            by_image: dict[int, list[Any]] = {image["id"]: [] for image in data["images"]}
            for entry in sorted(data["annotations"], key=lambda entry: entry["id"]):
                for key, ids in (("image_id", by_image), ("category_id", categories)):
                    if entry[key] not in ids:
                        raise BadInput(
                            f"{path}, annotation {entry['id']}: there is no {key} {entry[key]!r} in the file"
                        )
                by_image[entry["image_id"]].append(entry)
            return [
                record
                for image in sorted(data["images"], key=lambda image: image["id"])
                for record in self._of_image(image, by_image[image["id"]], categories, folder)
            ]

    def _of_image(
        self, image: Any, annotations: list[Any], categories: dict[int, tuple[str, str]], folder: Path
    ) -> Iterator[Record]:
        where = f"{self.split}.json, image {image['id']}"
        entries = [(categories[entry["category_id"]], entry) for entry in annotations]
        kinds = dict.fromkeys(category for category, _ in entries)
        for noun, part_name in kinds if self.parts else dict.fromkeys((noun, "") for noun, _ in kinds):
            caption, ((_, stop),) = photo_of(f"{noun} {part_name}".strip())
            spans = ((stop - len(part_name or noun), stop),)
            objects = tuple(
                ObjectAnnotation(
                    " ".join(category),
                    edges(entry["bbox"]),
                    spans if category[0] == noun and part_name in ("", category[1]) else (),
                    entry.get("segmentation"),
                )
                for category, entry in entries
            )
            yield Record(
                (caption,),
                str(folder / image["file_name"]),
                where,
                annotations=objects,
                size=(image["width"], image["height"]),
            )


def _names(category: Any) -> tuple[str, str]:
    """Return the name of the whole and of the part of a category, such as "quadruped" and "head"."""
    noun, name = str(category["supercategory"]).lower(), str(category["name"]).lower()
    part_name = name.removeprefix(noun).strip()
    if not part_name:
        raise ValueError(f"the category {category['name']!r} has no part: use the annotations of parts, not of wholes")
    return _WORDS.get(noun, noun), _WORDS.get(part_name, part_name)
