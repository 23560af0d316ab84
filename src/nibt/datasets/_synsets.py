"""Images of WordNet's synsets: a caption for each from the names of its synset."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nibt.datasets._files import lines, natural
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Edges, ObjectAnnotation, Record
from nibt.errors import BadInput, BadOption

PREFIX = "a photo of a "
_SYNSET = re.compile("n[0-9]{8}")


class Labeled(NamedTuple):
    """An image of a synset. Boxes are left, top, width and height in pixels."""

    synset: str
    image: Path
    where: str
    boxes: tuple[Edges, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SynsetDataset(LocalDataset):
    """The first ``each`` images of every synset, or all of them, synsets and images by their numbers.

    ``split`` is val or train.

    The caption is ``a photo of a `` and the whole string of the synset, as in the paper: "a photo of a tench, Tinca
    tinca". All of that string names the objects.
    """

    each: int | None = None
    split: str = "val"

    def __post_init__(self) -> None:
        if self.split not in ("val", "train"):
            raise BadOption(f"split must be val or train: test has no labels (got {self.split!r})")
        if self.each is not None and self.each < 1:
            raise BadOption(f"each must be at least 1 (got {self.each})")
        super().__post_init__()

    def captioned(self, images: Iterable[Labeled], names: dict[str, str]) -> list[Record]:
        """Entries of the first images of each synset.

        Raises:
            BadInput: A synset has no name, or fewer images than ``each``.

        """
        of_synset: dict[str, list[Labeled]] = {}
        for labeled in images:
            of_synset.setdefault(labeled.synset, []).append(labeled)
        entries: list[Record] = []
        for synset, members in sorted(of_synset.items()):
            if synset not in names:
                raise BadInput(f"{members[0].where}: the list of names does not know the synset {synset!r}")
            if self.each is not None and len(members) < self.each:
                raise BadInput(
                    f"each must be at most {len(members)} (got {self.each}): the synset {synset} has no more images"
                )
            members.sort(key=lambda labeled: natural(labeled.image.name))
            entries += [_entry(labeled, names[synset]) for labeled in members[: self.each]]
        return entries


def is_synset(text: str) -> bool:
    """Whether a text is the number of a synset, such as n01440764."""
    return _SYNSET.fullmatch(text) is not None


def synset_names(path: Path) -> dict[str, str]:
    """The names of synsets: a line each, number, space or tab, and all its names.

    Raises:
        BadInput: A line is no such line.

    """
    names: dict[str, str] = {}
    for line, where in lines(path):
        number, _, name = line.replace("\t", " ", 1).partition(" ")
        if not is_synset(number) or not name.strip():
            raise BadInput(f"{where}: expected the number of a synset and its names (got {line!r})")
        names[number] = name.strip()
    return names


def from_corners(corners: list[str], where: str) -> Edges:
    """Return the box of its first and last column and row.

    The last ones belong to the box, as in ImageNet's files: those of a whole image of 64 pixels are 0 0 63 63.

    Raises:
        BadInput: These are not four numbers, or the last comes before the first.

    """
    try:
        left, top, right, bottom = map(float, corners)
        if right < left or bottom < top:
            raise ValueError
    except ValueError as error:
        raise BadInput(
            f"{where}: a box is its left, top, right and bottom in pixels (got {' '.join(corners)!r})"
        ) from error
    return left, top, right - left + 1, bottom - top + 1


def _entry(labeled: Labeled, name: str) -> Record:
    caption = PREFIX + name
    span = len(PREFIX), len(caption)
    marks = tuple(ObjectAnnotation(name, box, (span,)) for box in labeled.boxes)
    return Record((caption,), str(labeled.image), labeled.where, annotations=marks)
