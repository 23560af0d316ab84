"""Published questions about images, for generators, with their right answers."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from nibt.datasets._files import format_errors, lines, parsed
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput
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
    split: Annotated[str, OneOf(_SPLITS)] = "random"

    @property
    @abstractmethod
    def places(self) -> tuple[str, ...]:
        """The folders that may have the file, besides the folder of the data set."""

    def read_records(self) -> list[Record]:
        name = f"{self.prefix}{self.split}.json"
        path = self.inside(*(f"{place}/{name}" for place in self.places), name, what=name)
        folder = self.inside("val2014", "images/val2014", "images", what="the folder val2014 of images of COCO")
        return list(_questions(path, folder))


def _questions(path: Path, folder: Path) -> Iterator[Record]:
    """Yield a record for each line of a file."""
    for line, where in lines(path):
        with format_errors(where):
            values = parsed(line, where)
            question = values["text"]
            answer = values["label"]
            name = values["image"]
            number = str(values["question_id"])

        if not isinstance(question, str) or not isinstance(name, str) or Path(name).name != name:
            raise BadInput(f"{where}: text and image must be a question and the name of a file (got {line!r:.100})")
        if answer not in _ANSWERS:
            raise BadInput(f"{where}: label must be yes or no (got {answer!r:.60})")
        yield Record((question,), str(folder / name), where, key=number, reference=answer)
