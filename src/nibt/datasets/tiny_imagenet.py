"""Tiny ImageNet: images of 64 x 64 pixels of 200 of ImageNet's synsets, with a box each.

Y. Le, X. Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N, 2015.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from nibt.datasets._files import lines
from nibt.datasets._synsets import SplitSynsets, SynsetImage, from_corners, synset_names
from nibt.datasets.base import Record
from nibt.errors import BadInput
from nibt.options import Range


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(SplitSynsets):
    """The first images of the 200 synsets. The default of five images per synset is the paper's subset, 1,000 pairs.

    Synsets are in the order of their ids, and images in natural order of their names (val_2 before val_10).
    """

    title = "Tiny ImageNet"
    layout = (
        "wnids.txt, words.txt, val/val_annotations.txt and val/images/, or train/SYNSET/SYNSET_boxes.txt and "
        "train/SYNSET/images/"
    )
    home = "cs231n.stanford.edu, the file tiny-imagenet-200.zip"
    each: Annotated[int, Range(1, 10**9)] | None = 5

    def read_records(self) -> list[Record]:
        synsets = {line.strip() for line, _ in lines(self.inside("wnids.txt"))}
        names = {synset: name for synset, name in synset_names(self.inside("words.txt")).items() if synset in synsets}
        return self.captioned(self._val() if self.split == "val" else self._train(synsets), names)

    def _val(self) -> Iterator[SynsetImage]:
        folder = self.inside("val/images")
        for line, where in lines(self.inside("val/val_annotations.txt")):
            name, synset, *corners = _fields(line, where, 6)
            yield SynsetImage(synset, folder / name, where, (from_corners(corners, where),))

    def _train(self, synsets: set[str]) -> Iterator[SynsetImage]:
        for synset in sorted(synsets):
            folder = self.inside(f"train/{synset}/images")
            for line, where in lines(self.inside(f"train/{synset}/{synset}_boxes.txt")):
                name, *corners = _fields(line, where, 5)
                yield SynsetImage(synset, folder / name, where, (from_corners(corners, where),))


def _fields(line: str, where: str, count: int) -> list[str]:
    fields = line.split()
    if len(fields) != count:
        raise BadInput(f"{where}: expected {count} fields (got {len(fields)})")
    return fields
