"""The folder of a ROAR run: the maps of each method, and the record of each finished training.

A file depends only on the request and on its name, so that a run that was killed is resumed with the same bits.
"""

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from nibt.folder import ChunkFile, Manifest, RunFolder, require_unchanged
from nibt.methods.base import SIDES
from nibt.records import JsonObject, read_record
from nibt.types import Modality, ModelRecord

Scores = dict[Modality, list[np.ndarray]]
"""The raw scores of both sides of each pair."""
ORIGINAL = "original"


@dataclass(frozen=True)
class Retraining:
    """One training without units of a side by the maps of a method; ``original`` and no side for untouched pairs."""

    trainable: str
    method: str
    side: str
    repeat: int

    @property
    def name(self) -> str:
        """The name in the folder, such as ``features--nib@paper--image--0``."""
        words = (self.trainable, self.method.replace(":", "@"), self.side, str(self.repeat))
        return "--".join(word for word in words if word)


class TrainingRecord(TypedDict):
    """The losses of the validation pairs after training and, for untouched pairs, before it."""

    losses: list[float]
    parameters: int
    seconds: float
    before: NotRequired[list[float]]


class RoarRequest(TypedDict):
    """What the trainings of a run have in common; ``pairs`` is a hash."""

    model: ModelRecord
    data: JsonObject
    pairs: str
    settings: JsonObject


class RoarManifest(Manifest):
    """The manifest of a ROAR run."""

    kind: str = "roar"
    request: RoarRequest


class RoarFolder(RunFolder[RoarManifest]):
    """The folder of a ROAR run."""

    manifest_class = RoarManifest
    chunk_pattern = r"\w+--.+"

    def read_training(self, path: Path) -> TrainingRecord:
        return read_record(TrainingRecord, json.loads(require_unchanged(path).read_bytes()), str(path))

    def read_maps(self, path: Path) -> Scores:
        with np.load(require_unchanged(path)) as arrays:
            count = len(arrays.files) // 2
            return {side: [arrays[f"{side}.{item}"] for item in range(count)] for side in SIDES}


def maps_file(name: str, scores: Scores) -> ChunkFile:
    """Return the file of the maps of a method."""
    arrays: dict[str, Any] = {
        f"{side}.{item}": array for side, of_side in scores.items() for item, array in enumerate(of_side)
    }
    stream = BytesIO()
    np.savez_compressed(stream, **arrays)
    return ChunkFile(name, stream.getvalue(), len(arrays) // 2, ".npz")
