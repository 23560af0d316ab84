"""Images of WordNet's synsets, with captions from the names of the synsets."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from nibt.datasets._captions import openai_names
from nibt.datasets._files import lines, natural
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Edges, FilePart, ObjectAnnotation, Record
from nibt.errors import BadInput
from nibt.options import OneOf, Range

PREFIX = "a photo of a "
_CLASSES = 1000  # of ImageNet


class SynsetImage(NamedTuple):
    """An image of a synset, with the location of its label, and the boxes or the outline of its objects."""

    synset: str
    image: Path | FilePart
    where: str
    boxes: tuple[Edges, ...] = ()
    outline: Any = None


@dataclass(frozen=True, kw_only=True)
class SynsetDataset(LocalDataset):
    """Base class of data sets of synsets.

    Synsets are in the order of their ids, and images in natural order of their names. As in the paper, the caption is
    ``a photo of a `` and all names of the synset: "a photo of a tench, Tinca tinca". These names name the objects.

    Attributes:
        each: The number of images of each synset, from the first; None means all.
        names: The names of the synsets: those of the "wordnet" file, or "openai", the names by which CLIP was evaluated
            on the 1,000 synsets of ImageNet.
    """

    each: Annotated[int, Range(1, 10**9)] | None = None
    names: Annotated[str, OneOf(("wordnet", "openai"))] = "wordnet"

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of all synsets that have images; with OpenAI's names, the different ones of all classes."""
        return tuple(dict.fromkeys(openai_names())) if self.names == "openai" else super().labels

    def captioned(self, images: Iterable[SynsetImage], names: dict[str, str]) -> list[Record]:
        """Return the records of the first images of each synset."""
        of_synset: dict[str, list[SynsetImage]] = {}
        for labeled in images:
            of_synset.setdefault(labeled.synset, []).append(labeled)
        if self.names == "openai":
            names = _openai_names_of(sorted(names) if len(names) == _CLASSES else sorted(of_synset))

        entries: list[Record] = []
        for synset, members in sorted(of_synset.items()):
            if synset not in names:
                raise BadInput(f"{members[0].where}: the list of names does not have the synset {synset!r}")
            if self.each is not None and len(members) < self.each:
                raise BadInput(
                    f"each must be at most {len(members)}, the number of images of {synset} (got {self.each})"
                )

            members.sort(key=lambda each: natural(each.image.name if isinstance(each.image, Path) else each.where))
            entries += [_record(labeled, names[synset]) for labeled in members[: self.each]]

        return entries


def _openai_names_of(synsets: Sequence[str]) -> dict[str, str]:
    """Return the names by which CLIP was evaluated, which are known by the order of the synsets of ImageNet."""
    openai = openai_names()
    if len(synsets) != len(openai):
        raise BadInput(
            f"names='openai' needs a file of names with the {len(openai):,} synsets of ImageNet, whose order "
            "gives their names, such as LOC_synset_mapping.txt, or images of all of them (got "
            f"{len(synsets):,}): add the file, or use names='wordnet' (in a plan, an option of the data set)"
        )
    return dict(zip(synsets, openai, strict=True))


def _record(labeled: SynsetImage, name: str) -> Record:
    """Return the record of an image, whose caption has the name of its synset."""
    caption = PREFIX + name
    spans = ((len(PREFIX), len(caption)),)
    if labeled.outline is not None:
        objects = (ObjectAnnotation(name, None, spans, labeled.outline),)
    else:
        objects = tuple(ObjectAnnotation(name, box, spans) for box in labeled.boxes)

    image = str(labeled.image) if isinstance(labeled.image, Path) else labeled.image
    return Record((caption,), image, labeled.where, annotations=objects, names=(name,), label=name)


@dataclass(frozen=True, kw_only=True)
class SplitSynsets(SynsetDataset):
    """Base class of data sets of synsets with splits.

    Attributes:
        split: The split: "val" or "train"; "test" has no labels.
    """

    split: Annotated[str, OneOf(("val", "train"))] = "val"


def is_synset(text: str) -> bool:
    """Return whether a text is the id of a synset, such as n01440764."""
    return re.fullmatch("n[0-9]{8}", text) is not None


def synset_names(path: Path) -> dict[str, str]:
    """Read the names of synsets from a file whose lines have an id, a space or tab, and the names."""
    names: dict[str, str] = {}
    for line, where in lines(path):
        number, _, name = line.replace("\t", " ", 1).partition(" ")
        if not is_synset(number) or not name.strip():
            raise BadInput(f"{where}: expected the id of a synset and its names (got {line!r})")
        names[number] = name.strip()

    return names


def from_corners(corners: list[str], where: str) -> Edges:
    """Convert the first and the last column and row of a box, both inside, to left, top, width and height."""
    try:
        left, top, right, bottom = map(float, corners)
        if right < left or bottom < top:
            raise ValueError
    except ValueError as error:
        raise BadInput(
            f"{where}: a box must be left, top, right and bottom in pixels (got {' '.join(corners)!r})"
        ) from error
    return left, top, right - left + 1, bottom - top + 1
