"""COCO-Stuff: the images of COCO with a label for each pixel, one of 80 things and 91 stuffs.

H. Caesar, J. Uijlings, V. Ferrari, COCO-Stuff: Thing and Stuff Classes in Context, CVPR 2018.
"""

from dataclasses import dataclass

from nibt.datasets._files import lines
from nibt.datasets._label_maps import LabelMaps, Places
from nibt.errors import BadInput

_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""The things that were never annotated, by their numbers in the list of labels."""
_LARGEST = 182
_CONVERTED = "_labelTrainIds.png"


@dataclass(frozen=True, kw_only=True)
class COCOStuff(LabelMaps):
    """A pair for each image of COCO-Stuff 164k, with its label map of 171 labels.

    The caption is "a photo of a person", for the label with most pixels. Each label of the image is an object, with
    its mask. Label images are the published ones, or those that mmsegmentation's converter writes beside them.

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
