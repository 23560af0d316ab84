"""What the data sets of PASCAL have in common: the names of kinds in plain words, and label maps in a folder of VOC."""

from dataclasses import dataclass
from typing import ClassVar

from nibt.datasets._label_maps import BACKGROUND, LabelMaps, Places

_WORDS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}


def in_words(name: str) -> str:
    """Return the name of a kind in plain words."""
    return _WORDS.get(name, name)


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
