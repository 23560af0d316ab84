"""ROAR+: remove the units with the highest scores, train again, and measure the increase of the loss.

This is the protocol of the papers of M2IB and NIB, after ROAR (Hooker et al., 2019). To reduce the cost, training may
use cached features or only the last blocks. Runs are resumable. ``docs/reference/roar.md`` describes the protocol.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nibt.data.pair import Pair, pairs_hash, require_image_text
from nibt.engine.spec import resolve
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.evaluation.maps import raw_scores, with_controls
from nibt.evaluation.roar.bootstrap import Bootstrap
from nibt.evaluation.roar.folder import ORIGINAL, Cell, Folder, TrainingRecord
from nibt.evaluation.roar.inputs import TowerInputs
from nibt.evaluation.roar.settings import LEAST_PAIRS, REMOVALS, TRAINABLES, Settings, chosen, learning_rates
from nibt.evaluation.roar.trainers import TRAINERS, Trainer, trained_blocks
from nibt.evaluation.roar.training import Sources, fitting, split, trained, untrained
from nibt.methods.base import SIDES, MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.options import Repeats, parsed
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import find
from nibt.results.roar import Roar, Training
from nibt.torch_modes import plain_torch
from nibt.types import Modality


@plain_torch()
def roar(
    model: Model | str | Path | nn.Module,
    pairs: Sequence[Pair],
    methods: str | Sequence[str] = "nib",
    *,
    out: str | Path,
    trainable: str | Iterable[str] = "features",
    remove: str | Iterable[str] = REMOVALS,
    repeats: int = 3,
    learning_rate: float | Mapping[str, float] | None = None,
    data: Mapping[str, Any] | None = None,
    on_progress: OnProgress = no_progress,
    **settings: Any,
) -> Roar:
    """Measure the increase of the loss after training on pairs without the units that each method scores highest.

    A run is resumable, with the same bits. Methods, trainables and repeats may be added to it. The model is not
    changed: copies are trained.

    Args:
        model: A loaded model in float32, or what ``load_model`` takes.
        pairs: Pairs of an image and a caption.
        methods: Names of methods, with or without a variant (``nib:paper``). ``random``, ``centre`` and ``ones`` are
            always included as negative controls.
        out: The folder of the run.
        trainable: What is trained, one or several of "features" (a linear map on the cached embeddings of each side),
            "last" (the last blocks and the heads, from cached hidden states) and "whole" (both towers).
        remove: The side whose units are removed, one or several of "image", "text" and "both".
        repeats: The number of repeats, each with another split and order of the pairs.
        learning_rate: Adam's learning rate, for all trainables or by name.
        data: The origin of the pairs, which is saved with the result.
        on_progress: Called before each training with the number of trainings that are done.
        **settings: The fields of ``nibt.evaluation.roar.settings.Settings``.

    Returns:
        The loss increases of the methods, and the agreement between trainables.

    Raises:
        BadInput: There are fewer than 10 pairs.
        OtherRequest: The folder has a run with other settings, another model or other pairs.
        BadOption: An option has an invalid value, or training diverged.
        UnknownName: No method, variant or option has that name.
        Unsupported: The model is not in float32, or it lacks what a method needs.

    """
    named = [
        MethodSpec.without_options(name, "roar")
        for name in dict.fromkeys([methods] if isinstance(methods, str) else methods)
    ]
    trainables, removals = chosen("trainable", trainable, TRAINABLES), chosen("remove", remove, REMOVALS)
    checked = Settings.of(learning_rates=learning_rates(learning_rate), **settings)
    repeats = parsed("repeats", repeats, Repeats)
    _check_sides(named)
    if len(pairs) < LEAST_PAIRS:
        raise BadInput(
            f"ROAR needs at least {LEAST_PAIRS} pairs, for training and validation (got {len(pairs)}): give more"
        )
    pairs = [require_image_text(pair, "roar") for pair in pairs]
    model = load_model(model)
    if model.dtype != "float32":
        raise Unsupported(f"model must be in float32 to be trained (got {model.dtype}): load it with dtype='float32'")
    specs = with_controls(named)
    for spec in specs:
        resolve(model, spec, seed=checked.seed)  # fail before a computation starts
    plan = RoarPlan(specs, trainables, removals, repeats)
    run = RoarRunner(model, pairs, plan, checked, Path(out), data or {"pairs": len(pairs)})
    run.run(on_progress)
    return run.result()


@dataclass(frozen=True)
class RoarPlan:
    """The trainings of a run: every combination of method, trainable, removal and repeat.

    Attributes:
        methods: The methods, controls included.
        trainables: What is trained.
        removals: The sides whose units are removed.
        repeats: The number of repeats.

    """

    methods: Sequence[MethodSpec]
    trainables: Sequence[str]
    removals: Sequence[str]
    repeats: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the training data: ``original`` for untouched pairs, and the methods."""
        return (ORIGINAL, *map(str, self.methods))

    def cells(self, trainable: str, method: str) -> list[Cell]:
        """Return the trainings of a trainable and a method."""
        removals = ("",) if method == ORIGINAL else self.removals
        return [Cell(trainable, method, removed, repeat) for removed in removals for repeat in range(self.repeats)]


class RoarRunner:
    """A run of ROAR in its folder."""

    def __init__(
        self,
        model: Model,
        pairs: Sequence[Pair],
        plan: RoarPlan,
        settings: Settings,
        out: Path,
        data: Mapping[str, Any],
    ) -> None:
        self.model, self.pairs, self.plan, self.settings, self.data = model, pairs, plan, settings, dict(data)
        self.inputs: dict[Modality, TowerInputs] = {
            side: TowerInputs.of(model.tower(side), [_item(pair, side) for pair in pairs]) for side in SIDES
        }
        self.trainers: dict[str, Trainer] = {}
        self.sources: dict[tuple[str, Modality], Any] = {}
        for name in plan.trainables:
            self.trainer(name)  # fail before a file is written
        self.fits = fitting(pairs)
        stored = {
            "model": model.facts(),
            "data": self.data,
            "pairs": pairs_hash(pairs),
            "settings": settings.record(),
        }
        self.folder = Folder.begin(out, stored)
        self.session = self.folder.session()

    def trainer(self, name: str) -> Trainer:
        """Return the trainer of a trainable, which is created once."""
        if name not in self.trainers:
            blocks, size = self.settings.blocks, self.settings.explain_batch
            self.trainers[name] = TRAINERS[name](self.model, self.inputs, blocks, size)
        return self.trainers[name]

    def run(self, on_progress: OnProgress) -> None:
        """Run the trainings that are missing in the folder."""
        work = [(trainable, method) for trainable in self.plan.trainables for method in self.plan.names]
        total, done = sum(len(self.plan.cells(*cell)) for cell in work), 0
        before = self.model.renewed(anew=True).weights_hash
        for name, method in work:
            cells = self.plan.cells(name, method)
            missing = [cell for cell in cells if not self.folder.has(cell)]
            done += len(cells) - len(missing)
            if not missing:
                continue
            on_progress(Progress(done, total, f"{name}: {method}"))
            trainer = self.trainer(name)
            untouched: Sources = {side: self._source(trainer, side) for side in SIDES}
            reduced = untouched
            if method != ORIGINAL:
                reduced = self._reduced_sources(trainer, method, _Reporter(on_progress, done, total))
            for cell in missing:
                on_progress(Progress(done, total, f"{name}: {method} {cell.removed}".rstrip()))
                self.folder.keep(cell, self._train(trainer, cell, reduced, untouched))
                done += 1
        on_progress(Progress(done, total, "done"))
        if self.model.renewed(anew=True).weights_hash != before:
            raise Unsupported(
                f"the weights of {self.model.id} changed during the run: do not train it at the same time"
            )

    def _source(self, trainer: Trainer, side: Modality) -> Any:
        """Return the data of a trainer from one side of the untouched pairs, computed once."""
        if (trainer.name, side) not in self.sources:
            self.sources[trainer.name, side] = trainer.source(side, self.inputs[side])
        return self.sources[trainer.name, side]

    def _reduced_sources(self, trainer: Trainer, method: str, report: "_Reporter") -> Sources:
        """Return the data of a trainer from the pairs without the units that a method scores highest."""
        spec = next(spec for spec in self.plan.methods if str(spec) == method)
        settings = self.settings

        def on_progress(progress: Progress) -> None:
            report(f"maps of {method}: {progress.done} of {progress.total}")

        scores = self.folder.maps(
            method, lambda: raw_scores(self.model, self.pairs, spec, settings.seed, settings.explain_batch, on_progress)
        )
        percentiles: dict[Modality, int] = {"image": settings.image_percentile, "text": settings.text_percentile}
        return {
            side: trainer.source(
                side,
                self.inputs[side].without(self.model.tower(side), scores[side], percentiles[side], settings.seed),
            )
            for side in SIDES
            if any(removed in (side, "both") for removed in self.plan.removals)
        }

    def _train(self, trainer: Trainer, cell: Cell, reduced: Sources, untouched: Sources) -> TrainingRecord:
        started = time.perf_counter()
        sources: Sources = {
            side: reduced[side] if cell.removed in (side, "both") else untouched[side] for side in SIDES
        }
        record: TrainingRecord = {
            "losses": trained(trainer, sources, untouched, self.fits, self.settings, cell.repeat),
            "parameters": trainer.count,
            "seconds": time.perf_counter() - started,
        }
        if cell.method == ORIGINAL:
            record["before"] = untrained(trainer, untouched, self.fits, self.settings, cell.repeat)
        return record

    def result(self) -> Roar:
        """Build the result from the files of the folder."""
        losses: dict[tuple[str, str, str], np.ndarray] = {}
        trainings = []
        for trainable in self.plan.trainables:
            records = {
                cell: self.folder.read(cell)
                for method in self.plan.names
                for cell in self.plan.cells(trainable, method)
            }
            for cell, record in records.items():
                key = (trainable, "" if cell.method == ORIGINAL else cell.method, cell.removed)
                losses[key] = np.array([*losses.get(key, []), record["losses"]])
            trainings.append(self._training(trainable, records))
        bootstrap = Bootstrap(losses, self.settings.seed)
        train, validate = split(len(self.pairs), self.settings, 0)
        settings = self.settings.record() | {
            "blocks": {side: trained_blocks(self.model, side, self.settings.blocks) for side in SIDES},
            "repeats": self.plan.repeats,
            "remove": list(self.plan.removals),
            "training": len(train),
            "validating": len(validate),
        }
        return Roar(
            self.model.facts(),
            self.data,
            settings,
            self.plan.names[1:],
            self.session["versions"],
            self.session["machine"],
            self.session["began"],
            tuple(trainings),
            tuple(bootstrap.loss_increases()),
            tuple(bootstrap.agreements()),
            tuple(self._notes()),
        )

    def _training(self, trainable: str, records: Mapping[Cell, TrainingRecord]) -> Training:
        originals = [record for cell, record in records.items() if cell.method == ORIGINAL]
        before = float(np.mean([record.get("before", []) for record in originals]))
        after = float(np.mean([record["losses"] for record in originals]))
        seconds = sum(record["seconds"] for record in records.values()) / len(records)
        learning_rate = self.settings.learning_rates[trainable]
        return Training(trainable, originals[0]["parameters"], learning_rate, before, after, seconds)

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
        if self.plan.repeats == 1:
            yield "there is a single repeat: the intervals do not include the variation of splits and orders"


@dataclass(frozen=True)
class _Reporter:
    """A function that reports the stage of a training, with the number of finished trainings."""

    on_progress: OnProgress
    done: int
    total: int

    def __call__(self, stage: str) -> None:
        self.on_progress(Progress(self.done, self.total, stage))


def _check_sides(specs: Sequence[MethodSpec]) -> None:
    """Check that all methods explain both sides."""
    for spec in specs:
        sides = find("methods", spec.name).sides
        for side in SIDES:
            if side not in sides:
                raise BadOption(
                    f"methods must explain both sides ({spec} does not explain the {side} side): leave it out"
                )


def _item(pair: Pair, side: Modality) -> Any:
    return pair.image if side == "image" else pair.caption
