"""Images of ImageNet with masks: ImageNet-S, ImageNet-Segmentation and PartImageNet."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from nibt.data.images import MOST_PIXELS, ImageInput, decode_image
from nibt.datasets._captions import photo_of
from nibt.datasets._files import format_errors, lines, natural, read_json
from nibt.datasets._label_maps import LabelImages, LabelMask
from nibt.datasets._local import LocalDataset
from nibt.datasets._synsets import SplitSynsets, SynsetDataset, SynsetImage, is_synset, synset_names
from nibt.datasets.base import FilePart, ObjectAnnotation, Record, edges
from nibt.errors import BadInput, import_optional, reason
from nibt.options import OneOf
from nibt.records import JsonObject

_FOLDERS = {"val": "validation", "train": "train-semi"}


@dataclass(frozen=True, kw_only=True)
class ImageNetS(LabelImages, SplitSynsets, name="imagenet_s"):
    """ImageNet-S: images of ImageNet with masks of 50, 300 or 919 classes.

    The images of ImageNet-S, each with the mask of its class. The test set has no public masks.

    The number of a class is its position among the sorted synsets, from 1. Pixels that the annotators ignored, and
    those of other classes, are not on the object.

    S. Gao et al., Large-scale Unsupervised Semantic Segmentation, TPAMI 2022.

    Attributes:
        classes: The number of classes: 50, 300 or 919.
    """

    title = "ImageNet-S"
    layout = (
        "ImageNetS50/ (or ImageNetS300/, ImageNetS919/) or its content: validation/SYNSET/*.JPEG and "
        "validation-segmentation/SYNSET/*.png (of the split train: train-semi/ and train-semi-segmentation/); and the "
        "names of the synsets in LOC_synset_mapping.txt, synset_words.txt or words.txt"
    )
    home = "github.com/LUSSeg/ImageNet-S, with ImageNet's images; the names of synsets are a file of ImageNet"
    classes: Annotated[int, OneOf((50, 300, 919))] = 919

    def read_records(self) -> list[Record]:
        names = synset_names(self.inside("LOC_synset_mapping.txt", "synset_words.txt", "words.txt"))
        home = self.root / f"ImageNetS{self.classes}"
        home = home if home.is_dir() else self.root
        images = home / _FOLDERS[self.split]
        masks = home / f"{images.name}-segmentation"
        for folder in (images, masks):
            if not folder.is_dir():
                raise self.lacking(f"the folder {folder.name}")

        synsets = sorted(path.name for path in images.iterdir() if is_synset(path.name) and path.is_dir())
        labeled = []
        numbers = self._numbers(synsets)
        for synset in synsets:
            # an image without a mask, and a mask without an image, are errors of their pair
            paths = [*(images / synset).glob("*.JPEG"), *(masks / synset).glob("*.png")]
            for name in sorted({path.stem for path in paths}, key=natural):
                image = images / synset / f"{name}.JPEG"
                mask = masks / synset / f"{name}.png"
                outline = LabelMask(mask.relative_to(self.root).as_posix(), numbers[synset])
                where = f"{images.name}, image {synset}/{image.name}"
                labeled.append(SynsetImage(synset, image, where, outline=outline))

        return self.captioned(labeled, names)

    @property
    def largest(self) -> int:
        return self.classes

    def _numbers(self, synsets: list[str]) -> dict[str, int]:
        """Return the number of each class, by the list of the authors or, without it, by the folders."""
        name = f"ImageNetS_categories_im{self.classes}.txt"
        path = self.root / name
        classes = sorted(line.split()[0] for line, _ in lines(path)) if path.is_file() else synsets
        if len(set(classes)) != self.classes:
            raise BadInput(
                f"{str(self.folder)!r} must have {self.classes} classes (got {len(set(classes))}): set classes, or add "
                f"{name} of the authors, which has all synsets"
            )

        numbers = {synset: number for number, synset in enumerate(sorted(set(classes)), 1)}
        unknown = [synset for synset in synsets if synset not in numbers]
        if unknown:
            raise BadInput(f"{path} does not have the synset {unknown[0]}, which is a folder of images")
        return numbers


_FILE = "gtsegs_ijcv.mat"
_IMAGES = "value/img"
_MASKS = "value/gt"
_IDS = "value/id"
_TRANSPOSED_COLOR = (2, 1, 0)  # MATLAB's arrays are stored by columns


@dataclass(frozen=True, slots=True)
class StoredImage(FilePart):
    """An image of the MATLAB file, by its position from 0."""

    path: Path
    number: int

    def read(self) -> bytes:
        pixels = _read(self.path, _IMAGES, self.number)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.size:
            raise BadInput(
                f"{self.path}: image {self.number + 1} must be 3 x width x height bytes (got {pixels.dtype} "
                f"{' x '.join(map(str, pixels.shape))}): use the published file"
            )

        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels.transpose(_TRANSPOSED_COLOR))).save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class ImageNetSegmentation(SynsetDataset, name="imagenet_segmentation"):
    """ImageNet-Segmentation: 4,276 images of 445 synsets with masks, in one MATLAB file.

    The images of ImageNet-Segmentation, each with the mask of its object, by synset.

    The file is HDF5, which h5py reads. The synset of an image is the start of its id, such as ``n01440764_10026``. With
    ``names="openai"``, all 1,000 synsets of ImageNet would be needed, which this data set does not have.

    M. Guillaumin, D. Küttel, V. Ferrari, ImageNet Auto-Annotation with Segmentation Propagation, IJCV 110, 2014.
    """

    title = "ImageNet-Segmentation"
    layout = (
        f"{_FILE}, and the names of the synsets in words.txt, synset_words.txt or LOC_synset_mapping.txt (those of "
        "WordNet, since not all synsets are among the 1,000 of ILSVRC)"
    )
    home = "calvin-vision.net, ImageNet auto-annotation; the names of synsets are a file of ImageNet"

    def read_records(self) -> list[Record]:
        path = self.inside(_FILE)
        names = synset_names(self.inside("words.txt", "synset_words.txt", "LOC_synset_mapping.txt"))
        return self.captioned(_stored_images(path), names)

    def load_image(self, record: Record) -> ImageInput:
        assert isinstance(record.image, StoredImage)
        return decode_image(record.image.read(), record.where)

    def mask(self, annotation: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        pixels = _read(self.inside(_FILE), _MASKS, annotation.outline)
        if pixels.shape != size:
            expected, got = (" x ".join(map(str, sides)) for sides in (size, pixels.shape))
            raise BadInput(f"{where}: the mask must have the size of the image, {expected} (got {got})")
        if not np.isin(pixels, (0, 1)).all():
            raise BadInput(f"{where}: the mask must have the numbers 0 and 1 (got others): use the published file")
        return pixels.T == 1

    def content(self, item: int) -> str:
        """Return a text that identifies the content of a pair, with its mask, which annotations only number."""
        (annotation,) = self.entries[item].annotations
        try:
            mask = _read(self.inside(_FILE), _MASKS, annotation.outline).tobytes()
        except BadInput as error:
            mask = str(error).encode()
        return f"{super().content(item)} {sha256(mask).hexdigest()}"


def _stored_images(path: Path) -> Iterator[SynsetImage]:
    with _opened(path) as file, _stored_errors(str(path)):
        for number, (reference,) in enumerate(_stored(file, _IDS)[()]):
            identity = "".join(map(chr, np.asarray(_stored(file, reference)).ravel()))
            synset = identity.partition("_")[0]
            if not is_synset(synset):
                raise BadInput(f"{path}: the id of image {number + 1} must start with a synset (got {identity!r:.60})")
            yield SynsetImage(synset, StoredImage(path, number), f"{path.name}, image {identity}", outline=number)


def _read(path: Path, group: str, number: int) -> np.ndarray:
    """Read an image or a mask; a mask is inside of a list with one entry."""
    with _opened(path) as file, _stored_errors(f"{path}, image {number + 1}"):
        stored = _stored(file, _stored(file, group)[number, 0])
        if group == _MASKS:
            stored = _stored(file, stored[0, 0])
        return np.asarray(stored)


def _stored(file: Any, key: Any) -> Any:
    """Return an array of the file, which must be in the file itself, and no larger than an image that can be read."""
    array = file[key]
    if array.external or array.is_virtual or array.file.filename != file.filename:
        raise BadInput(f"{file.filename} has {array.name} in another file: use the published file")
    if array.nbytes > 3 * MOST_PIXELS:
        raise BadInput(
            f"{file.filename}: {array.name} must have at most {3 * MOST_PIXELS:,} bytes (got {array.nbytes:,}): use "
            "the published file"
        )
    return array


@contextmanager
def _stored_errors(where: str) -> Iterator[None]:
    """Convert the errors of a damaged or unusual file to ``BadInput``."""
    try:
        with format_errors(where):
            yield
    except (OSError, RuntimeError, MemoryError, OverflowError) as error:
        raise BadInput(f"{where} cannot be read ({reason(error)}): use the published file") from error


def _opened(path: Path) -> Any:
    """Open the MATLAB file."""
    h5py = import_optional("h5py", f"{path} needs h5py", "data")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise BadInput(f"{path} is no HDF5 file, or damaged ({reason(error)}): use the published file") from error


_WORDS = {"tier": "tire", "aeroplane": "airplane"}  # "Tier" is a misspelling in the published names


@dataclass(frozen=True, kw_only=True)
class PartImageNet(LocalDataset, name="part_imagenet"):
    """PartImageNet: images of 158 classes of ImageNet with masks of the parts of their objects.

    A pair for each image and each kind of part in it, in the order of the image ids.

    The caption is "a photo of a quadruped head". The name of the part, "head", names all masks of this kind; the other
    parts of the image are not named.

    J. He et al., PartImageNet: A Large, High-Quality Dataset of Parts, ECCV 2022.

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
        self, image: JsonObject, annotations: Sequence[JsonObject], categories: dict[int, tuple[str, str]], folder: Path
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


def _names(category: JsonObject) -> tuple[str, str]:
    """Return the name of the whole and of the part of a category, such as "quadruped" and "head"."""
    noun = str(category["supercategory"]).lower()
    name = str(category["name"]).lower()
    part_name = name.removeprefix(noun).strip()
    if not part_name:
        raise ValueError(f"the category {category['name']!r} has no part: use the annotations of parts, not of wholes")
    return _WORDS.get(noun, noun), _WORDS.get(part_name, part_name)
