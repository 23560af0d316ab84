"""Flickr8k: 8,091 photographs of people and animals in action, with five captions each.

M. Hodosh, P. Young, J. Hockenmaier, Framing Image Description as a Ranking Task: Data, Models and Evaluation Metrics,
JAIR 47, 2013.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nibt.datasets._files import lines, natural, table
from nibt.datasets._local import CaptionedDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput
from nibt.options import OneOf

_NO_IMAGE = "2258277193_586949ec62.jpg.1"  # the published list has captions of this image, which is not in the archive
_SPLITS = {"train": "trainImages", "dev": "devImages", "test": "testImages"}


@dataclass(frozen=True, kw_only=True)
class Flickr8k(CaptionedDataset):
    """The images of Flickr8k with their captions, in natural order of their names.

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
        captions = _from_token(path) if path.name == "Flickr8k.token.txt" else _from_table(path)
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


_Captions = dict[str, tuple[str, list[tuple[int, str]]]]  # by image: its first line in the file, its numbered captions


def _from_table(path: Path) -> _Captions:
    captions: _Captions = {}
    for row, where in table(path, ("image", "caption")):
        numbered = captions.setdefault(row["image"].strip(), (where, []))[1]
        numbered.append((len(numbered), row["caption"].strip()))
    return captions


def _from_token(path: Path) -> _Captions:
    captions: _Captions = {}
    for line, where in lines(path):
        place, _, caption = line.partition("\t")
        name, _, number = place.rpartition("#")
        if not name or not number.isdecimal():
            raise BadInput(f"{where}: expected image.jpg#0, a tab and a caption (got {line!r})")
        if name != _NO_IMAGE:
            captions.setdefault(name, (where, []))[1].append((int(number), caption.strip()))
    return captions
