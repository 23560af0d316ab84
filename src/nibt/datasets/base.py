"""A data set is a sequence of pairs; its options are its dataclass fields."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from nibt.data.pair import Pair
from nibt.errors import BadInput, NibtError, Unsupported
from nibt.progress import tracked
from nibt.registry import Plugin


@dataclass(frozen=True)
class Dataset(Plugin, ABC):
    """Pairs by their number, from 0; the same number always gives the same pair. ``about`` is its line in a list."""

    about: ClassVar[str] = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, item: int) -> Pair:
        """One pair, with what is known of where its objects are.

        Raises:
            IndexError: there is no such pair.

        """

    def __iter__(self) -> Iterator[Pair]:
        return (self[item] for item in range(len(self)))

    @classmethod
    def check(cls, *arguments: Any, **options: Any) -> str:
        """What keeps a data set from being read, in plain words; empty where nothing does.

        It takes what the class takes, and says what the class would raise; then it looks for every image, which
        the class does not.
        """
        try:
            return cls(*arguments, **options).missing()
        except (BadInput, Unsupported) as error:
            return str(error)

    def missing(self) -> str:
        """Which of its images are not there, in plain words; empty where all are."""
        return ""

    def fingerprint(self, count: int | None = None) -> str:
        """16 hexadecimal digits of what its first ``count`` pairs are: their images, captions and annotations."""
        digest = sha256()
        for item in tracked(range(len(self) if count is None else min(count, len(self)))):
            digest.update(self.content(item).encode() + b"\n")
        return digest.hexdigest()[:16]

    def content(self, item: int) -> str:
        """What tells a pair from any other that could stand in its place; of a pair that cannot be read, why."""
        try:
            pair = self[item]
        except NibtError as error:
            return str(error)
        return repr((pair.image.digest, pair.caption, [(one.name, one.box, one.spans) for one in pair.objects]))

    def record(self) -> dict[str, Any]:
        """What is to be written down beside results: its name, its options, and how many pairs it has."""
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.init and field.repr}
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        return {"dataset": type(self).__module__.rsplit(".", 1)[-1], **plain, "pairs": len(self)}


# By name only: Sequence has a method `count`, and here that is an option.
Sequence.register(Dataset)  # pyright: ignore[reportAttributeAccessIssue]
