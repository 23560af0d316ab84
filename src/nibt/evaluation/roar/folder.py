"""The folder of a ROAR run: its settings, the maps of each method, and a file per finished training.

Each file is written completely or not at all, and depends only on the settings and on its name. So a run that was
killed is resumed with the same bits.
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
    """One training.

    Attributes:
        trainable: What is trained.
        method: The method by whose maps units are removed; ``original`` for untouched pairs.
        removed: The side whose units are removed; empty for untouched pairs.
        repeat: The number of the repeat, from 0.

    """

    trainable: str
    method: str
    removed: str
    repeat: int

    @property
    def name(self) -> str:
        """The name of the file."""
        parts = (self.trainable, self.method.replace(":", "@"), self.removed, str(self.repeat))
        return "--".join(part for part in parts if part) + ".json"


class TrainingRecord(TypedDict):
    """The result of one training.

    Attributes:
        losses: The losses of the validation pairs after training.
        parameters: The number of trained parameters.
        seconds: The time of the training.
        before: The losses of the validation pairs before training, for untouched pairs.

    """

    losses: list[float]
    parameters: int
    seconds: float
    before: NotRequired[list[float]]


@dataclass(frozen=True)
class Folder:
    """The folder of a ROAR run.

    Attributes:
        path: The path of the folder.

    """

    path: Path

    @classmethod
    def begin(cls, path: Path, settings: dict[str, Any]) -> "Folder":
        """Create the folder of a run, or open it if the run has the same settings."""
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
        """Record a new session of the run, and return it."""
        stored = provenance.read_json(self.path / PROVENANCE) if (self.path / PROVENANCE).exists() else {"sessions": []}
        now = provenance.session_info()
        provenance.write_json(self.path / PROVENANCE, {**stored, "sessions": [*stored["sessions"], now]})
        return now

    def has(self, cell: Cell) -> bool:
        """Return whether a training is finished."""
        return (self.path / _CELLS / cell.name).exists()

    def read(self, cell: Cell) -> TrainingRecord:
        """Return the record of a training."""
        path = self.path / _CELLS / cell.name
        return read_record(TrainingRecord, provenance.read_json(path), str(path))

    def keep(self, cell: Cell, record: TrainingRecord) -> None:
        """Write the record of a training."""
        provenance.write_json(self.path / _CELLS / cell.name, dict(record))

    def maps(self, method: str, make: Callable[[], Scores]) -> Scores:
        """Return the maps of a method. They are computed and written if their file is missing."""
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
