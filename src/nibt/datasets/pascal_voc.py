"""PASCAL VOC: photographs of 20 kinds of objects with boxes, and masks for a part of them.

M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88(2), 2010.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from nibt.datasets._files import format_errors, lines
from nibt.datasets._label_maps import LabelImages, LabelMask
from nibt.datasets._pascal import in_words
from nibt.datasets._photos import photo_of
from nibt.datasets.base import Edges, ObjectAnnotation, Record
from nibt.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class PascalVOC(LabelImages):
    """A pair for each image and each kind of object in it, in the order of the split's list.

    The caption is "a photo of a dog". It names all objects of this kind; the other objects of the image are not named.
    Pixels at the borders of objects, which the annotators ignored, are not on an object.

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
            objects = [(_text(element, "name"), _edges(element)) for element in root.iter("object")]
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


def _edges(element: ElementTree.Element) -> Edges:
    """Return the box of an object. Pixels are counted from 1, and the last ones are inside the box."""
    left, top, right, bottom = (float(_text(element, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return left - 1, top - 1, right - left + 1, bottom - top + 1


PLUGIN = PascalVOC
