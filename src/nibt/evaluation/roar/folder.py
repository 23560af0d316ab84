"""The folder of a run: its settings, the maps of each method, and a file per finished training.

Each file is written whole or not at all, and depends only on the settings and its own name: so a run that was killed is
resumed with the same bits.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from nibt.errors import BadInput, CannotWrite
from nibt.io import atomic_write
from nibt.outputs import check_run_folder
from nibt.records import read_record
from nibt.results import provenance
from nibt.results.records import SessionRecord
from nibt.types import Modality

Scores = dict[Modality, list[np.ndarray]]
"""The raw scores of both sides of each pair."""
PROVENANCE = "provenance.json"
_SETTINGS, _CELLS, _MAPS = "settings.json", "cells", "maps"
ORIGINAL = "original"


@dataclass(frozen=True)
class Cell:
    """One training, on what the removal leaves of the pairs (``method`` is ``original`` for untouched pairs)."""

    trainable: str
    method: str
    removed: str
    repeat: int

    @property
    def name(self) -> str:
        """The name of its file."""
        parts = (self.trainable, self.method.replace(":", "@"), self.removed, str(self.repeat))
        return "--".join(part for part in parts if part) + ".json"


class TrainingRecord(TypedDict):
    """What came of one training.

    Attributes:
        losses: The losses of the batches that validate.
        parameters: The number of trained parameters.
        seconds: The time that it took.
        before: The loss before the training, for untouched data.

    """

    losses: list[float]
    parameters: int
    seconds: float
    before: NotRequired[list[float]]


@dataclass(frozen=True)
class Folder:
    """The folder of a run."""

    path: Path

    @classmethod
    def begin(cls, path: Path, settings: dict[str, Any]) -> "Folder":
        """Begin a new run, or open the one in the folder if it has the same settings.

        Raises:
            OtherRequest: The folder holds a run of other settings.
            WouldOverwrite: It holds something else.
            CannotWrite: It cannot be made.

        """
        check_run_folder(path, _SETTINGS)
        folder = cls(path)
        settings = json.loads(json.dumps(settings, default=str))
        if (path / _SETTINGS).exists():
            provenance.require_same(path, provenance.read_json(path / _SETTINGS), settings, "Choose a new folder.")
        try:
            for name in (_CELLS, _MAPS):
                (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"cannot create the folder {path}: {error.strerror or error}") from error
        if not (path / _SETTINGS).exists():
            provenance.write_json(path / _SETTINGS, settings)
        return folder

    def session(self) -> SessionRecord:
        """Record when and where the run is worked on, and return that session."""
        stored = provenance.read_json(self.path / PROVENANCE) if (self.path / PROVENANCE).exists() else {"sessions": []}
        now = provenance.session_info()
        provenance.write_json(self.path / PROVENANCE, {**stored, "sessions": [*stored["sessions"], now]})
        return now

    def has(self, cell: Cell) -> bool:
        """Return whether a training is finished."""
        return (self.path / _CELLS / cell.name).exists()

    def read(self, cell: Cell) -> TrainingRecord:
        """Read the record of a training.

        Raises:
            BadInput: The file cannot be read.

        """
        path = self.path / _CELLS / cell.name
        return read_record(TrainingRecord, provenance.read_json(path), str(path))

    def keep(self, cell: Cell, record: TrainingRecord) -> None:
        """Write the record of a training."""
        provenance.write_json(self.path / _CELLS / cell.name, dict(record))

    def maps(self, method: str, make: Callable[[], Scores]) -> Scores:
        """Return the maps of a method, from its file or computed now and written.

        Raises:
            BadInput: The file cannot be read.

        """
        file = self.path / _MAPS / f"{method.replace(':', '@')}.npz"
        if not file.exists():
            maps = make()
            with atomic_write(file) as draft, draft.open("wb") as stream:
                arrays = {f"{side}.{item}": one for side, of_side in maps.items() for item, one in enumerate(of_side)}
                np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
            return maps
        try:
            with np.load(file) as kept:
                count = len(kept.files) // 2
                return {side: [kept[f"{side}.{item}"] for item in range(count)] for side in ("image", "text")}
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(f"{str(file)!r} cannot be read ({error}): delete it to compute the maps again") from error
