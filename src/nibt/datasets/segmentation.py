"""Data sets for segmentation: PASCAL VOC with objects, and PASCAL, ADE20K and COCO-Stuff with label maps."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar
from xml.etree import ElementTree

from nibt.datasets._captions import photo_of
from nibt.datasets._files import format_errors, lines
from nibt.datasets._label_maps import BACKGROUND, LabelImages, LabelMaps, LabelMask, Places, in_words
from nibt.datasets.base import ObjectAnnotation, Record
from nibt.errors import BadInput
from nibt.options import OneOf


@dataclass(frozen=True, kw_only=True)
class PascalMaps(LabelMaps):
    """Base class of the label maps of PASCAL, where the numbers of the kinds begin with 1, and 0 is the background."""

    year: ClassVar[str]
    maps: ClassVar[str]
    lists: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    split: str = "val"
    background: bool = True

    def places(self) -> Places:
        name = f"VOCdevkit/VOC{self.year}"
        folder = self.around(self.maps, name, f"VOC{self.year}", what=name)
        listed = folder / "ImageSets" / self.lists / f"{self.split}.txt"
        return Places(folder / "JPEGImages", folder / self.maps, listed=listed)

    def names(self) -> dict[int, str]:
        background = {0: BACKGROUND} if self.background else {}
        return background | dict(enumerate(map(in_words, self.kinds), 1))

    @property
    def ignored(self) -> tuple[int, ...]:
        return (255,) if self.background else (0, 255)


@dataclass(frozen=True, kw_only=True)
class PascalVOC(LabelImages, name="pascal_voc"):
    """PASCAL VOC: photographs of 20 kinds of objects with boxes, and masks for a part of them.

    A pair for each image and each kind of object in it, in the order of the split's list.

    The caption is "a photo of a dog". It names all objects of this kind; the other objects of the image are not named.
    Pixels at the borders of objects, which the annotators ignored, are not on an object.

    M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88(2), 2010.

    Attributes:
        split: The split: "val", "train" or "trainval" (or another list of ``ImageSets``).
        year: The year of the challenge.
        masks: Whether only the images with masks are read, with their masks. Otherwise all images are read, with boxes.
    """

    title = "PASCAL VOC"
    layout = (
        "VOCdevkit/VOC2012/ (or VOC2012/, or its content) with ImageSets/Segmentation/SPLIT.txt, Annotations/*.xml, "
        "JPEGImages/*.jpg and SegmentationObject/*.png; without masks, ImageSets/Main/SPLIT.txt instead"
    )
    home = "host.robots.ox.ac.uk/pascal/VOC"
    split: str = "val"
    year: str = "2012"
    masks: bool = True

    def read_records(self) -> list[Record]:
        name = f"VOCdevkit/VOC{self.year}"
        folder = self.around("Annotations", name, f"VOC{self.year}", what=name)
        listed = folder / "ImageSets" / ("Segmentation" if self.masks else "Main") / f"{self.split}.txt"
        for path in (listed, folder / "Annotations", folder / "JPEGImages"):
            if not path.exists():
                raise self.lacking(path.relative_to(self.root).as_posix())

        images = [line.split()[0] for line, _ in lines(listed)]
        return [record for image in images for record in self._of_image(folder, image)]

    def _of_image(self, folder: Path, image: str) -> Iterator[Record]:
        path = folder / "Annotations" / f"{image}.xml"
        root = _parsed(path)
        where = f"{path.name}, image {image}"
        with format_errors(str(path)):
            width, height = (int(_text(root, f"size/{side}")) for side in ("width", "height"))
            objects = []
            for element in root.iter("object"):  # pixels are counted from 1, and the last ones are inside the box
                corners = (_text(element, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax"))
                left, top, right, bottom = map(float, corners)
                objects.append((_text(element, "name"), (left - 1, top - 1, right - left + 1, bottom - top + 1)))

        # the number of an object in its label image is its position in the XML file, from 1
        masks = (folder / "SegmentationObject" / f"{image}.png").relative_to(self.root).as_posix()
        for category in dict.fromkeys(name for name, _ in objects):
            word = in_words(category)
            caption, spans = photo_of(word)
            annotations = tuple(
                ObjectAnnotation(
                    in_words(name),
                    box,
                    spans if name == category else (),
                    LabelMask(masks, number) if self.masks else None,
                )
                for number, (name, box) in enumerate(objects, 1)
            )
            image_path = str(folder / "JPEGImages" / f"{image}.jpg")
            yield Record((caption,), image_path, where, annotations=annotations, size=(width, height), label=word)


def _parsed(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, UnicodeError, ValueError) as error:
        raise BadInput(f"{path} is missing or damaged ({error}): use the published file") from error


def _text(element: ElementTree.Element, name: str) -> str:
    text = element.findtext(name)
    if not text or not text.strip():
        raise ValueError(f"{name} is missing")
    return text.strip()


@dataclass(frozen=True, kw_only=True)
class PascalVOCSegmentation(PascalMaps, name="pascal_voc_segmentation"):
    """PASCAL VOC for segmentation: photographs with a label for each pixel, of 20 kinds or the background.

    A pair for each image of the segmentation challenge of 2012, with its label map.

    The caption is "a photo of a dog", for the kind with most pixels. Each kind in the image is an object, with its
    mask. Pixels at the borders of objects were ignored.

    M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88(2), 2010.

    Attributes:
        split: The split: "val", "train" or "trainval" (or another list of ``ImageSets/Segmentation``).
        background: Whether the background is a label (21 labels). Otherwise its pixels are ignored (20 labels).
    """

    title = "PASCAL VOC for segmentation"
    layout = (
        "VOCdevkit/VOC2012/ (or VOC2012/, or its content) with ImageSets/Segmentation/SPLIT.txt, JPEGImages/*.jpg and "
        "SegmentationClass/*.png"
    )
    home = "host.robots.ox.ac.uk/pascal/VOC"
    year = "2012"
    maps = "SegmentationClass"
    lists = "Segmentation"
    kinds = (
        *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
        *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    )


@dataclass(frozen=True, kw_only=True)
class PascalContext(PascalMaps, name="pascal_context"):
    """PASCAL Context: the images of VOC 2010 with a label for each pixel, of 59 kinds or the background.

    A pair for each image of PASCAL Context, with its label map.

    The caption is "a photo of a sky", for the kind with most pixels. Each kind in the image is an object, with its
    mask. The label images are those that mmsegmentation's converter writes: 0 is the background, and the 59 kinds
    follow in alphabetical order.

    R. Mottaghi et al., The Role of Context for Object Detection and Semantic Segmentation in the Wild, CVPR 2014.

    Attributes:
        split: The split: "val" or "train" (or another list of ``ImageSets/SegmentationContext``).
        background: Whether the background is a label (60 labels). Otherwise its pixels are ignored (59 labels).
    """

    title = "PASCAL Context"
    layout = (
        "VOCdevkit/VOC2010/ (or VOC2010/, or its content) with JPEGImages/*.jpg and, of mmsegmentation's converter "
        "pascal_context.py, SegmentationClassContext/*.png and ImageSets/SegmentationContext/SPLIT.txt"
    )
    home = "host.robots.ox.ac.uk/pascal/VOC/voc2010 (images), cs.stanford.edu/~roozbeh/pascal-context"
    year = "2010"
    maps = "SegmentationClassContext"
    lists = "SegmentationContext"
    kinds = (
        *("aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building"),
        *("bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog"),
        *("door", "fence", "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike"),
        *("mountain", "mouse", "person", "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves"),
        *("sidewalk", "sign", "sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall"),
        *("water", "window", "wood"),
    )


_NAMES = "objectInfo150.txt"
_COUNT = 150
_FOLDERS = {"val": "validation", "train": "training"}


@dataclass(frozen=True, kw_only=True)
class ADE20K(LabelMaps, name="ade20k"):
    """ADE20K: scenes with a label for each pixel, of the 150 labels of the scene parsing challenge.

    A pair for each image of the scene parsing challenge of ADE20K, with its label map.

    The caption is "a photo of a wall", for the label with most pixels. Each label of the image is an object, with its
    mask. A label is the first of its names. Pixels without a label (0) are ignored.

    B. Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017.

    Attributes:
        split: The split: "val" or "train".
    """

    title = "ADE20K"
    layout = (
        f"ADEChallengeData2016/ or its content: images/validation/*.jpg, annotations/validation/*.png (of the split "
        f"train: training/) and {_NAMES}"
    )
    home = "data.csail.mit.edu/places/ADEchallenge"
    split: Annotated[str, OneOf(("val", "train"))] = "val"

    @property
    def ignored(self) -> tuple[int, ...]:
        return (0,)

    def places(self) -> Places:
        folder = self.around("annotations", "ADEChallengeData2016")
        split = _FOLDERS[self.split]
        return Places(folder / "images" / split, folder / "annotations" / split)

    def names(self) -> dict[int, str]:
        path = self.inside(f"ADEChallengeData2016/{_NAMES}", _NAMES, what=_NAMES)
        names = {}
        for line, where in list(lines(path))[1:]:
            number, *_, name = line.split("\t") if "\t" in line else ("", "")
            if not number.strip().isdecimal() or len(number) > 9 or not name.strip():
                raise BadInput(
                    f"{where}: expected the number of a label, columns and its names, with tabs (got {line})"
                )
            names[int(number)] = re.split("[,;]", name)[0].strip()

        if sorted(names) != list(range(1, _COUNT + 1)) or len(set(names.values())) < _COUNT:
            raise BadInput(f"{path} must have the numbers 1 to {_COUNT} and as many names: use the published file")
        return names


_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""The things that were never annotated, by their numbers in the list of labels."""
_LARGEST = 182
_CONVERTED = "_labelTrainIds.png"


@dataclass(frozen=True, kw_only=True)
class COCOStuff(LabelMaps, name="coco_stuff"):
    """COCO-Stuff: the images of COCO with a label for each pixel, one of 80 things and 91 stuffs.

    A pair for each image of COCO-Stuff 164k, with its label map of 171 labels.

    The caption is "a photo of a person", for the label with most pixels. Each label of the image is an object, with
    its mask. Label images are the published ones, or those that mmsegmentation's converter writes beside them.

    H. Caesar, J. Uijlings, V. Ferrari, COCO-Stuff: Thing and Stuff Classes in Context, CVPR 2018.

    Attributes:
        split: The split: "val2017" or "train2017".
    """

    title = "COCO-Stuff"
    layout = (
        "images/val2017/*.jpg (or val2017/), stuffthingmaps_trainval2017/val2017/*.png (or annotations/val2017/*.png, "
        f"or *{_CONVERTED}; of the split train2017: train2017/) and labels.txt"
    )
    home = "github.com/nightrome/cocostuff, with the images of cocodataset.org"
    split: str = "val2017"

    def places(self) -> Places:
        folders = "stuffthingmaps_trainval2017", "annotations"
        maps = self.inside(*(f"{name}/{self.split}" for name in folders))
        converted = next(maps.glob(f"*{_CONVERTED}"), None) is not None
        return Places(self.inside(f"images/{self.split}", self.split), maps, _CONVERTED if converted else ".png")

    def names(self) -> dict[int, str]:
        path = self.inside("labels.txt")
        names = {}
        for line, where in lines(path):
            number, colon, name = line.partition(":")
            if not (number.strip().isdecimal() and colon and name.strip()):
                raise BadInput(f"{where}: expected the number of a label, a colon and its name (got {line})")
            names[int(number)] = name.strip()

        if sorted(names) != list(range(_LARGEST + 1)):
            raise BadInput(f"{path} must have the numbers 0 to {_LARGEST}: use the published file")

        used = [number for number in range(1, _LARGEST + 1) if number not in _UNUSED]
        if self._places.ending == _CONVERTED:  # numbered without gaps
            return {position: names[number] for position, number in enumerate(used)}
        return {number - 1: names[number] for number in used}  # the label images begin with 0
