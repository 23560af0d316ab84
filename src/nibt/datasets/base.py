"""A data set is a sequence of pairs; its options are its dataclass fields."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from nibt.pair import Pair


@dataclass(frozen=True)
class Dataset(ABC):
    """Pairs by their number, from 0; the same number always gives the same pair."""

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
