"""Runs of ROAR, which train a model without the units that methods score highest, and are resumable.

The folder has the maps of each method, and the record of each finished training. A file depends only on the request and
on its name, so that a run that was killed is resumed with the same bits.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import NotRequired

import numpy as np
from typing_extensions import TypedDict

from nibt.data.pair import Pair, pairs_hash
from nibt.errors import BadInput, Unsupported
from nibt.evaluation.maps import raw_scores
from nibt.evaluation.roar.bootstrap import Bootstrap
from nibt.evaluation.roar.inputs import TowerInputs
from nibt.evaluation.roar.settings import Settings
from nibt.evaluation.roar.training import TRAINERS, Sources, Trainer, fitting, split, trained, trained_blocks
from nibt.folder import MANIFEST, REMEDY, ChunkFile, Manifest, RunFolder, require_unchanged
from nibt.io import load_json
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress
from nibt.records import JsonObject, read_record
from nibt.registry import MethodSpec
from nibt.results.roar import Roar, Training
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


_FEW = 20  # pairs for validation


@dataclass(frozen=True)
class RoarPlan:
    """The trainings of a run: every combination of method, trainable, removal and repeat."""

    methods: Sequence[MethodSpec]
    trainables: Sequence[str]
    removals: Sequence[str]
    repeats: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the training data: ``original`` for untouched pairs, and the methods."""
        return (ORIGINAL, *map(str, self.methods))

    def trainings(self, trainable: str, method: str) -> list[Retraining]:
        removals = ("",) if method == ORIGINAL else self.removals
        repeats = range(self.repeats)
        return [Retraining(trainable, method, removed, repeat) for removed in removals for repeat in repeats]


class RoarRun:
    """A run of ROAR in its folder."""

    def __init__(
        self,
        model: Model,
        pairs: Sequence[Pair],
        plan: RoarPlan,
        settings: Settings,
        out: Path,
        data: Mapping[str, object],
    ) -> None:
        self.model = model
        self.pairs = pairs
        self.plan = plan
        self.settings = settings
        self.data = dict(data)
        self.inputs: dict[Modality, TowerInputs] = {
            side: TowerInputs.of(model.tower(side), [pair.image if side == "image" else pair.caption for pair in pairs])
            for side in SIDES
        }
        size = settings.explain_batch
        self.trainers = {name: TRAINERS[name](model, self.inputs, settings.blocks, size) for name in plan.trainables}
        self.fits = fitting(pairs)
        self.folder = RoarFolder(out)

    def run(self, on_progress: OnProgress) -> None:
        """Run the trainings that are missing in the folder."""
        request = {
            "model": self.model.facts(),
            "data": self.data,
            "pairs": pairs_hash(self.pairs),
            "settings": self.settings.record(),
        }
        with self.folder.writing(request):
            files = self.folder.files()
            missing = [training for training in self._trainings() if training.name not in files]
            if missing:
                self.folder.fill(self._trained(missing, on_progress))

        total = len(self._trainings())
        on_progress(Progress(total, total, "done"))

    def _trainings(self) -> list[Retraining]:
        return [
            training
            for trainable in self.plan.trainables
            for method in self.plan.names
            for training in self.plan.trainings(trainable, method)
        ]

    def _trained(self, missing: Sequence[Retraining], on_progress: OnProgress) -> Iterator[ChunkFile]:
        """Yield the record of each training."""
        total = len(self._trainings())
        done = total - len(missing)

        def report(stage: str) -> None:
            on_progress(Progress(done, total, stage))

        before = self.model.renewed(anew=True).weights_hash
        for trainable, of_trainable in groupby(missing, key=lambda training: training.trainable):
            trainer = self.trainers[trainable]
            untouched: Sources = {side: trainer.source(side, self.inputs[side]) for side in SIDES}
            for method, trainings in groupby(of_trainable, key=lambda training: training.method):
                report(f"{trainable}: {method}")
                reduced = untouched if method == ORIGINAL else self._reduced_sources(trainer, method, report)
                for training in trainings:
                    report(f"{trainable}: {method} {training.side}".rstrip())
                    record = self._train(trainer, training, reduced, untouched)
                    yield ChunkFile(training.name, json.dumps(record).encode(), suffix=".json")
                    done += 1

        if self.model.renewed(anew=True).weights_hash != before:
            raise Unsupported(
                f"the weights of {self.model.id} changed during the run: do not train it at the same time"
            )

    def _maps(self, method: str, report: Callable[[str], None]) -> Scores:
        """Return the maps of a method. They are computed and written if their file is missing."""
        name = f"maps--{method.replace(':', '@')}"
        for path in self.folder.files().get(name, []):
            with np.load(require_unchanged(path)) as arrays:
                count = len(arrays.files) // 2
                return {side: [arrays[f"{side}.{item}"] for item in range(count)] for side in SIDES}

        spec = next(spec for spec in self.plan.methods if str(spec) == method)

        def on_progress(progress: Progress) -> None:
            report(f"maps of {method}: {progress.done} of {progress.total}")

        seed = self.settings.seed
        batch_size = self.settings.explain_batch
        scores = raw_scores(
            self.model, self.pairs, method=spec, seed=seed, batch_size=batch_size, on_progress=on_progress
        )
        files = {f"{side}.{item}": array for side, of_side in scores.items() for item, array in enumerate(of_side)}
        stream = BytesIO()
        np.savez_compressed(stream, **files)  # pyright: ignore[reportArgumentType]
        self.folder.add(ChunkFile(name, stream.getvalue(), len(self.pairs), ".npz"))
        return scores

    def _reduced_sources(self, trainer: Trainer, method: str, report: Callable[[str], None]) -> Sources:
        """Return the data of a trainer from the pairs without the units that a method scores highest."""
        scores = self._maps(method, report)
        settings = self.settings
        percentiles: dict[Modality, int] = {"image": settings.image_percentile, "text": settings.text_percentile}
        return {
            side: trainer.source(
                side, self.inputs[side].without(self.model.tower(side), scores[side], percentiles[side], settings.seed)
            )
            for side in SIDES
            if any(removed in (side, "both") for removed in self.plan.removals)
        }

    def _train(self, trainer: Trainer, training: Retraining, reduced: Sources, untouched: Sources) -> TrainingRecord:
        started = time.perf_counter()
        sources: Sources = {
            side: reduced[side] if training.side in (side, "both") else untouched[side] for side in SIDES
        }
        record: TrainingRecord = {
            "losses": trained(
                trainer, sources, untouched=untouched, fits=self.fits, settings=self.settings, repeat=training.repeat
            ),
            "parameters": trainer.count,
            "seconds": time.perf_counter() - started,
        }
        if training.method == ORIGINAL:
            begun = replace(self.settings, epochs=0)
            record["before"] = trained(
                trainer, untouched, untouched=untouched, fits=self.fits, settings=begun, repeat=training.repeat
            )

        return record

    def result(self) -> Roar:
        """Build the result from the files of the folder."""
        files = self.folder.files()
        paths = {training: files[training.name][0] for training in self._trainings()}
        records = {
            training: read_record(TrainingRecord, load_json(require_unchanged(path)), str(path))
            for training, path in paths.items()
        }
        losses: dict[tuple[str, str, str], np.ndarray] = {}
        for training, record in records.items():
            key = (training.trainable, "" if training.method == ORIGINAL else training.method, training.side)
            losses[key] = np.array([*losses.get(key, []), record["losses"]])

        bootstrap = Bootstrap(losses, self.settings.seed)
        train, validate = split(len(self.pairs), self.settings, 0)
        settings = self.settings.record() | {
            "blocks": {side: trained_blocks(self.model, side, self.settings.blocks) for side in SIDES},
            "repeats": self.plan.repeats,
            "side": list(self.plan.removals),
            "training": len(train),
            "validating": len(validate),
        }
        sessions = self.folder.manifest.sessions
        if not sessions:
            raise BadInput(f"{self.folder.folder / MANIFEST}: sessions must have at least 1 entry: {REMEDY}")

        session = sessions[-1]
        return Roar(
            model=self.model.facts(),
            data=self.data,
            settings=settings,
            methods=self.plan.names[1:],
            versions=session["versions"],
            machine=session["machine"],
            date=session["began"],
            trainings=tuple(self._training(trainable, records) for trainable in self.plan.trainables),
            loss_increases=tuple(bootstrap.loss_increases()),
            agreements=tuple(bootstrap.agreements()),
            notes=tuple(self._notes()),
        )

    def _training(self, trainable: str, records: Mapping[Retraining, TrainingRecord]) -> Training:
        """Summarize the trainings of a trainable."""
        of_trainable = {training: record for training, record in records.items() if training.trainable == trainable}
        originals = [record for training, record in of_trainable.items() if training.method == ORIGINAL]
        before = float(np.mean([record.get("before", []) for record in originals]))
        after = float(np.mean([record["losses"] for record in originals]))
        seconds = sum(record["seconds"] for record in of_trainable.values()) / len(of_trainable)
        learning_rate = self.settings.learning_rates[trainable]
        return Training(
            trainable,
            originals[0]["parameters"],
            learning_rate=learning_rate,
            before=before,
            after=after,
            seconds=seconds,
        )

    def _notes(self) -> Iterator[str]:
        count = len(self.pairs)
        yield (
            f"{self.fits.sum() / (count * (count - 1)):.1%} of the negatives are left out of all losses, since the "
            "caption also fits the image"
        )
        explained = [group.inputs.words.explained for group in self.inputs["text"].groups if group.inputs.words]
        short = sum(int(words.sum()) == 1 for group in explained for words in group)
        if short:
            yield f"{short} of {count} captions have a single token, which is removed for every map"
        validating = len(split(count, self.settings, 0)[1])
        if validating < _FEW:
            yield (
                f"with {validating} pairs for validation the order of the methods is mostly chance: give more pairs "
                f"(--count), so that at least {_FEW} are for validation"
            )

        if self.plan.repeats == 1:
            yield "there is a single repeat: the intervals do not include the variation of splits and orders"
