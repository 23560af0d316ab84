"""CounterAnimal: animals before the backgrounds on which CLIP is right, and before those on which it often is not."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from nibt.data.images import names_image
from nibt.datasets._captions import openai_names, photo_of
from nibt.datasets._files import natural
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput
from nibt.options import OneOf

_GROUPS = ("common", "counter")
_FOLDER = "LAION-final"


@dataclass(frozen=True, kw_only=True)
class CounterAnimal(LocalDataset, name="counter_animal"):
    """CounterAnimal: animals of 45 classes of ImageNet on common and on uncommon backgrounds.

    The images of CounterAnimal with the caption of their class, "a photo of an ostrich", in the order of the
    classes of ImageNet.

    The label is the class, among the 1,000 names by which CLIP was evaluated on ImageNet. The key of a pair is the name
    of its folder, such as ``counter-grass``.

    Source:
        Wang et al., NeurIPS 2024

    Attributes:
        group: "common" backgrounds, or "counter", on which the CLIP of the authors was less often right; None means
            both.
    """

    title = "CounterAnimal"
    layout = (
        "a folder per class that begins with its number in ImageNet (9 ostrich/), in the folder or in "
        f"{_FOLDER}/, and in it the folders common-BACKGROUND/ and counter-BACKGROUND/ with images"
    )
    home = "counteranimal.github.io, the page of the authors"
    group: Annotated[str, OneOf(_GROUPS)] | None = None

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(openai_names()))

    def read_records(self) -> list[Record]:
        names = openai_names()
        root = self.root / _FOLDER if (self.root / _FOLDER).is_dir() else self.root
        classes = [path for path in root.iterdir() if path.is_dir() and path.name.split(" ")[0].isdecimal()]
        if not classes:
            raise self.lacking("folders of classes")

        return [
            record
            for path in sorted(classes, key=lambda path: natural(path.name))
            for record in self._of_class(path, names)
        ]

    def _of_class(self, folder: Path, names: tuple[str, ...]) -> Iterator[Record]:
        """Yield the records of a class."""
        number = int(folder.name.split(" ")[0])
        if number >= len(names):
            raise BadInput(f"{folder}: the number of a class must be between 0 and {len(names) - 1} (got {number})")

        groups = _GROUPS if self.group is None else (self.group,)
        for group in groups:
            backgrounds = sorted(
                path for path in folder.iterdir() if path.name.startswith(f"{group}-") and path.is_dir()
            )
            if not backgrounds:
                raise self.lacking(f"the folder {group}-BACKGROUND in {folder.name}/")

            for background in backgrounds:
                files = [path for path in background.iterdir() if names_image(path.name)]
                for path in sorted(files, key=lambda path: natural(path.name)):
                    yield _record(path, names[number])


def _record(path: Path, name: str) -> Record:
    """Return the record of an image of a class."""
    group = path.parent.name
    where = f"{path.parent.parent.name}/{group}, image {path.name}"
    return Record((photo_of(name).text,), str(path), where, key=group, label=name)
