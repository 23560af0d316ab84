"""Published questions about images, for generators, with their right answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from nibt.datasets._files import format_errors, lines, parsed, read_json, readable
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput
from nibt.io import read_text
from nibt.options import OneOf

_ANSWERS = ("yes", "no")
_SPLITS = ("random", "popular", "adversarial")


@dataclass(frozen=True, kw_only=True)
class QuestionDataset(LocalDataset):
    """Base class of questions about images. The captions are prompts, and the reference of a record is the answer."""

    @property
    def has_prompts(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class PollingDataset(QuestionDataset):
    """Base class of questions whether an object is in an image of COCO, in the layout of POPE.

    Attributes:
        split: How the objects were drawn that are not in the image: "random", "popular" (often in COCO), or
            "adversarial" (often beside the objects of the image).
    """

    prefix: ClassVar[str] = ""
    """What the name of a file has before the split."""
    places: ClassVar[tuple[str, ...]] = ()
    """The folders that may have the file, besides the folder of the data set."""
    split: Annotated[str, OneOf(_SPLITS)] = "random"

    def read_records(self) -> list[Record]:
        path = self.inside(*self._paths(self.split), what=self._what())
        folder = self.inside("val2014", "images/val2014", "images", what="the folder val2014 of images of COCO")
        return list(_questions(path, folder))

    def _paths(self, split: str) -> list[str]:
        """Return where the file of a split may be."""
        name = f"{self.prefix}{split}.json"
        return [*(f"{place}/{name}" for place in self.places), name]

    def _what(self) -> str:
        """Return the name of the file of the split, and which others there are."""
        there = [split for split in _SPLITS if any((self.root / path).is_file() for path in self._paths(split))]
        others = f" (it has the file of split={there[0]})" if there else ""
        return f"{self.prefix}{self.split}.json{others}"


def _questions(path: Path, folder: Path) -> Iterator[Record]:
    """Yield a record for each question of a file."""
    found: dict[str, str] = {}
    for values, where in _rows(path):
        with format_errors(where):
            question = values["text"]
            answer = values["label"]
            name = values["image"]
            number = str(values["question_id"])

        if not isinstance(question, str) or not isinstance(name, str) or Path(name).name != name:
            raise BadInput(f"{where}: text and image must be a question and the name of a file (got {values!r:.100})")
        if answer not in _ANSWERS:
            raise BadInput(f"{where}: label must be yes or no (got {answer!r:.60})")
        if number in found:
            raise BadInput(f"{where}: question_id must occur once (got {number!r:.60}, which {found[number]} has, too)")

        found[number] = where
        yield Record((question,), str(folder / name), where, key=number, reference=answer)


def _rows(path: Path) -> Iterator[tuple[Any, str]]:
    """Yield the questions of a file with their places: one on each line, or all as one list."""
    with readable(path):
        is_list = read_text(path).lstrip().startswith("[")

    if is_list:
        for number, values in enumerate(read_json(path), 1):
            yield values, f"{path.name}, question {number}"
    else:
        for line, where in lines(path):
            yield parsed(line, where), where
