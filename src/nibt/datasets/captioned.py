"""Data sets of images with captions: COCO, Conceptual Captions, Flickr8k and RSICD."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from nibt.datasets._files import format_errors, lines, natural, read_json, table
from nibt.datasets._local import CaptionedDataset, LocalDataset, images_folder
from nibt.datasets.base import ObjectAnnotation, Record, edges
from nibt.errors import BadInput, BadOption
from nibt.options import OneOf
from nibt.records import JsonObject


@dataclass(frozen=True, kw_only=True)
class COCO(CaptionedDataset, name="coco"):
    """COCO: photographs of everyday scenes with five captions each, and a box and a mask per object.

    The images of COCO with their captions and objects, in the order of the image ids.

    A caption names a category by its exact name or its plural, as whole words in any case: person, persons and people,
    but not man. Longer names come first, so that a hot dog is not a dog. The words then name all objects of the
    category.

    T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014; X. Chen et al., Microsoft COCO Captions:
    Data Collection and Evaluation Server, arXiv 1504.00325.

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


@dataclass(frozen=True, kw_only=True)
class ConceptualCaptions(LocalDataset, name="conceptual_captions"):
    """Conceptual Captions as a table with the columns ``caption`` and ``file_path``.

    The pairs of a table, in its order.

    Paths are relative to the folder or to its ``images``, or absolute. The official lists of captions and URLs are
    rejected, since they have no images.

    P. Sharma, N. Ding, S. Goodman, R. Soricut, Conceptual Captions: A Cleaned, Hypernymed, Image Alt-text Dataset For
    Automatic Image Captioning, ACL 2018.

    Attributes:
        table: The name of the table, if the folder has several.
    """

    title = "Conceptual Captions"
    layout = (
        "a .csv or .tsv table with the columns caption and file_path, and its images in images/ or in the same folder"
    )
    home = (
        "ai.google.com/research/ConceptualCaptions has captions with the URLs of the images; download the images, for "
        "instance with img2dataset, and write the table"
    )
    table: str | None = None

    def read_records(self) -> list[Record]:
        path = self.the_table(self.table, "*.csv", "*.tsv")
        first, _ = next(lines(path), ("", ""))
        if first.rpartition("\t")[2].strip().startswith(("http://", "https://")):
            raise BadInput(
                f"{path} is the official list of captions and URLs, which names no files: download the images, for "
                "instance with img2dataset, and write a table with the columns caption and file_path"
            )

        rows = [
            (row["file_path"], row["caption"].strip(), where) for row, where in table(path, ("caption", "file_path"))
        ]
        folder = images_folder(self.root, rows[0][0] if rows else "")
        return [Record((caption,), str(folder / name), where) for name, caption, where in rows]


_NO_IMAGE = "2258277193_586949ec62.jpg.1"  # the published list has captions of this image, which is not in the archive
_SPLITS = {"train": "trainImages", "dev": "devImages", "test": "testImages"}


@dataclass(frozen=True, kw_only=True)
class Flickr8k(CaptionedDataset, name="flickr8k"):
    """Flickr8k: 8,091 photographs of people and animals in action, with five captions each.

    The images of Flickr8k with their captions, in natural order of their names.

    M. Hodosh, P. Young, J. Hockenmaier, Framing Image Description as a Ranking Task: Data, Models and Evaluation
    Metrics, JAIR 47, 2013.

    Attributes:
        split: The split: "train", "dev" or "test". It needs the published list (``Flickr_8k.testImages.txt``). None
            means all images.
    """

    title = "Flickr8k"
    layout = (
        "captions.txt (image,caption) or Flickr8k.token.txt (image.jpg#0, tab, caption), in the folder or in "
        "Flickr8k_text/, and the images in Images/, images/ or Flicker8k_Dataset/"
    )
    home = "the authors' request form at hockenmaier.cs.illinois.edu (Framing Image Description, JAIR 2013)"
    split: Annotated[str, OneOf(_SPLITS)] | None = None

    def read_records(self) -> list[Record]:
        path = self._text("captions.txt", "Flickr8k.token.txt")
        captions: dict[str, tuple[str, list[tuple[int, str]]]] = {}  # the first line of an image, its numbered captions
        if path.name == "Flickr8k.token.txt":
            for line, where in lines(path):
                place, _, caption = line.partition("\t")
                name, _, number = place.rpartition("#")
                if not name or not number.isdecimal():
                    raise BadInput(f"{where}: expected image.jpg#0, a tab and a caption (got {line!r})")

                if name != _NO_IMAGE:
                    captions.setdefault(name, (where, []))[1].append((int(number), caption.strip()))
        else:
            for row, where in table(path, ("image", "caption")):
                numbered = captions.setdefault(row["image"].strip(), (where, []))[1]
                numbered.append((len(numbered), row["caption"].strip()))

        listed = self.split and lines(self._text(f"Flickr_8k.{_SPLITS[self.split]}.txt"))
        wanted = {line.strip() for line, _ in listed} if listed else captions.keys()
        unknown = sorted(set(wanted) - set(captions))
        if unknown:
            raise BadInput(f"{path} has no caption of {unknown[0]}, which is in the list of the split {self.split}")

        folder = self.inside(
            "Images",
            "images",
            "Flicker8k_Dataset",
            "Flickr8k_Dataset",
            what="a folder of images (Images or Flicker8k_Dataset)",
        )
        return [
            Record(tuple(caption for _, caption in sorted(captions[name][1])), str(folder / name), captions[name][0])
            for name in sorted(wanted, key=natural)
        ]

    def _text(self, *names: str) -> Path:
        return self.inside(*names, *(f"Flickr8k_text/{name}" for name in names), what=" or ".join(names))


@dataclass(frozen=True, kw_only=True)
class RSICD(CaptionedDataset, name="rsicd"):
    """RSICD: 10,921 aerial images, with five captions each.

    The images of RSICD with their captions, in the order of the JSON file.

    UCM-Captions and Sydney-Captions have the same layout: set ``table`` to their file.

    X. Lu, B. Wang, X. Zheng, X. Li, Exploring Models and Data for Remote Sensing Image Caption Generation, IEEE
    Transactions on Geoscience and Remote Sensing 56(4), 2018.

    Attributes:
        table: The name of the JSON file.
        split: The split: "train", "val" or "test"; None means all images.
    """

    title = "RSICD"
    layout = "dataset_rsicd.json, and the images in RSICD_images/, images/ or in the same folder"
    home = "github.com/201528014227051/RSICD_optimal, the authors' repository"
    table: str = "dataset_rsicd.json"
    split: str | None = None

    def read_records(self) -> list[Record]:
        path = self.inside(self.table)
        with format_errors(str(path)):
            listed: list[tuple[int, JsonObject]] = list(enumerate(read_json(path)["images"]))
            splits = sorted({str(image.get("split")) for _, image in listed})
            if self.split is not None and self.split not in splits:
                raise BadOption(f"split must be one of {', '.join(splits)} (got {self.split!r})")

            named = next((name for name in ("RSICD_images", "images", "imgs") if (self.root / name).is_dir()), ".")
            records = []
            for place, image in listed:
                if self.split in (None, image["split"]):
                    captions = tuple(sentence["raw"].strip() for sentence in image["sentences"])
                    if not captions:
                        raise ValueError(f"{image['filename']} has no sentences")

                    file = self.root / named / image["filename"]
                    records.append(Record(captions, str(file), f"{path.name}, image {place}"))

            return records
