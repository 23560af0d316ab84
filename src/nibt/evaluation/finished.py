"""The finished work of an audit or of ``nibt.parts`` in a folder, so that a call that was stopped goes on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from nibt.data.images import Region
from nibt.evaluation.maps import Map
from nibt.folder import Manifest, RunFolder
from nibt.io import read_path
from nibt.records import JsonObject

_DIGITS = 16  # of the digest of a name


class WorkManifest(Manifest):
    """The manifest of a folder of finished work."""

    kind: str = "finished work"
    request: JsonObject


class WorkFolder(RunFolder[WorkManifest]):
    """A folder of finished work."""

    manifest_class = WorkManifest
    other_request = "The work of that request was not finished: delete this folder, or choose another one."
    chunk_pattern = rf"[0-9a-f]{{{_DIGITS}}}"


@dataclass(frozen=True)
class FinishedWork:
    """Maps and measurements that are computed once per folder; without a folder, they are just computed.

    Attributes:
        folder: The folder, or None.
        model: What distinguishes the work on several models.
    """

    folder: WorkFolder | None = None
    model: str = ""

    def of_model(self, model: str) -> "FinishedWork":
        """Return the finished work on a model."""
        return replace(self, model=model)

    def maps(self, name: str, compute: Callable[[], list[Map]]) -> list[Map]:
        """Return maps that have a name."""
        if self.folder is None:
            return compute()

        return [_map_of(entry) for entry in self._kept(name, lambda: [_entry(each) for each in compute()])]

    def values(self, name: str, compute: Callable[[], Sequence[Sequence[Any]]]) -> Sequence[Sequence[Any]]:
        """Return rows of numbers and strings that have a name; those of a file are lists, since JSON has no tuples."""
        return compute() if self.folder is None else self._kept(name, compute)

    def numbers(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array of numbers that has a name."""
        return compute() if self.folder is None else np.array(self._kept(name, lambda: compute().tolist()), float)

    def record(self, name: str, compute: Callable[[], JsonObject]) -> JsonObject:
        """Return plain data that has a name."""
        return compute() if self.folder is None else self._kept(name, compute)

    def _kept(self, name: str, compute: Callable[[], object]) -> Any:
        """Return the data of a name from its file, or compute and write it."""
        assert self.folder is not None
        digest = sha256(f"{self.model} {name}".encode()).hexdigest()[:_DIGITS]
        return self.folder.kept(digest, lambda: {"name": name, "model": self.model, "data": compute()})["data"]


NOTHING_FINISHED = FinishedWork()
"""Without a folder."""


@contextmanager
def finished_work(folder: str | Path | None, request: Mapping[str, object]) -> Iterator[FinishedWork]:
    """Open a folder of finished work on a request; None for none.

    Raises:
        WouldOverwrite: The folder has other files, or the work on another request.
    """
    if folder is None:
        yield NOTHING_FINISHED
        return

    work = WorkFolder(read_path("folder", folder))
    with work.writing(request):
        yield FinishedWork(work)


def _entry(one: Map) -> JsonObject:
    """Return a map as plain data, from which the same numbers are read."""
    return {
        "scores": one.scores.tolist(),
        "words": list(one.words),
        "region": None if one.region is None else list(one.region),
    }


def _map_of(entry: JsonObject) -> Map:
    region = entry["region"]
    return Map(np.array(entry["scores"]), tuple(entry["words"]), None if region is None else Region(*region))
