"""ADE20K: scenes with a label for each pixel, of the 150 labels of the scene parsing challenge.

B. Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017.
"""

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
class ADE20K(LabelMaps):
    """A pair for each image of the scene parsing challenge of ADE20K, with its label map.

    The caption is "a photo of a wall", for the label with most pixels. Each label of the image is an object, with its
    mask. A label is the first of its names. Pixels without a label (0) are ignored.

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
