"""Data sets for the parsing of scenes, with a label for each pixel: ADE20K and COCO-Stuff."""

import re
from dataclasses import dataclass
from typing import Annotated

from nibt.datasets._files import lines
from nibt.datasets._label_maps import LabelMaps, Places
from nibt.errors import BadInput
from nibt.options import OneOf

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
        path, names = self.inside(f"ADEChallengeData2016/{_NAMES}", _NAMES, what=_NAMES), {}
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
        path, names = self.inside("labels.txt"), {}
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
