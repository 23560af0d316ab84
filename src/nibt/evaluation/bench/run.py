"""A run: a plan and the folder in which its numbers are kept. It goes on where it was stopped, however it was."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from nibt.datasets.base import Dataset
from nibt.errors import BadInput, CannotWrite, NibtError, Unsupported
from nibt.evaluation.bench.cell import Items, Work
from nibt.evaluation.bench.choices import Choice
from nibt.evaluation.bench.plan import Cell, Plan
from nibt.evaluation.bench.store import Store, part_name
from nibt.evaluation.bench.validation import checked, drawing, with_best_caption, with_key
from nibt.models._loading import load_model
from nibt.models._mean_states import file_hashes
from nibt.models.base import Model
from nibt.outputs import check_run_folder
from nibt.progress import OnProgress, Progress, no_progress
from nibt.results import provenance

_REMEDY = "Choose a new folder."
_PLAN, _PROVENANCE, _PARTS = "plan.json", "provenance.json", "parts"


@dataclass(frozen=True)
class Chunk:
    """The pairs ``start`` to ``stop`` of one cell; ``part`` is the name of their rows in the store."""

    cell: Cell
    start: int
    stop: int
    part: str


@dataclass(frozen=True)
class Run:
    """A plan, its folder, and how many pairs each data set has, by its label."""

    folder: Path
    plan: Plan
    lengths: Mapping[str, int]

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """The run in a folder; neither its models nor its data sets need be there.

        Raises:
            BadInput: The folder holds no run.

        """
        told = provenance.read(Path(folder) / _PLAN)
        if not isinstance(told, dict) or not all(isinstance(told.get(key), dict) for key in ("plan", "lengths")):
            raise BadInput(f"{Path(folder) / _PLAN} is not the plan of a run of nibt bench: choose another folder")
        return cls(Path(folder), Plan.of(told["plan"]), told["lengths"])

    @classmethod
    def begin(cls, plan: str | Path | Mapping[str, Any] | Plan, out: str | Path) -> "tuple[Run, dict[str, Dataset]]":
        """A new run, or the one that is in the folder, and the data sets of the plan. All of it is checked.

        Raises:
            BadInput: A data set is not there.
            OtherRequest: The folder holds a run of another plan, or of data that were changed since.
            WouldOverwrite: The folder holds something else than a run.
            BadOption: Something in the plan cannot be.
            CannotWrite: The folder cannot be made.
            Unsupported: pyarrow is not installed.

        """
        plan = Plan.read(plan)
        data = checked(plan)
        folder = Path(out)
        run = cls(folder, plan, {label: len(one) for label, one in data.items()})
        run.store.check()
        check_run_folder(folder, _PLAN)
        files = file_hashes(value for method in plan.methods for value in method.options.values())
        contents = {label: one.fingerprint(plan.first) for label, one in data.items()}
        told = {"plan": plan.record(), "lengths": dict(run.lengths), "contents": contents, "files": files}
        if (folder / _PLAN).exists():
            cls.open(folder)
            provenance.require_same(folder, _asked(provenance.read(folder / _PLAN)), _asked(told), _REMEDY)
            return run, data
        try:
            (folder / _PARTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"cannot make the folder {folder}: {error.strerror or error}") from error
        provenance.write(folder / _PROVENANCE, {"models": {}, "sessions": []})
        provenance.write(folder / _PLAN, told)
        return run, data

    @property
    def store(self) -> Store:
        return Store(self.folder / _PARTS)

    @property
    def provenance(self) -> dict[str, Any]:
        """The weights and the sessions of the run."""
        return provenance.read(self.folder / _PROVENANCE)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks.

        The first of every cell of a model and a data set come first, then the second: pairs are read once, the time
        left can be told from the first round, and what a stopped run has is of all methods.
        """
        draws = drawing(self.plan.methods)
        for model in self.plan.models:
            for data in self.plan.data:
                cells = list(self.plan.cells(model, data, draws))
                for start in range(0, self.lengths[data.label], self.plan.batch_size):
                    for cell in cells:
                        count = self.plan.count(cell.method, self.lengths[data.label])
                        if start < count:
                            yield self._chunk(cell, start, min(start + self.plan.batch_size, count))

    def left(self) -> list[Chunk]:
        """The chunks whose rows are not there."""
        return [chunk for chunk in self.chunks() if not self.store.has(chunk.part)]

    def table(self) -> Any:
        """All rows, as a ``pyarrow.Table``: cell by cell in the order of the plan, the same for the same plan."""
        cells: dict[str, list[Chunk]] = {}
        for chunk in self.chunks():  # of one cell they come from its first pairs on
            cells.setdefault(repr(chunk.cell.record()), []).append(chunk)
        return self.store.table(chunk.part for chunks in cells.values() for chunk in chunks)

    def go(self, data: Mapping[str, Dataset], on_progress: OnProgress = no_progress) -> None:
        """Measure what is lacking. ``on_progress`` is called with the number of pairs that are done after each chunk.

        Raises:
            OtherRequest: The run was begun with other weights.
            CannotLoad: A model cannot be loaded.
            BadOption: An option cannot have its value with a model.

        """
        left = self.left()
        if not left:
            for model in self.plan.models:  # the numbers that are there must be of these weights, too
                self._record(model.label, self._loaded(model).facts())
            return
        done, total = 0, sum(chunk.stop - chunk.start for chunk in left)
        self.store.sweep()
        told = self.provenance
        provenance.write(
            self.folder / _PROVENANCE, {**told, "sessions": [*told["sessions"], provenance.session_info()]}
        )
        for model, of_model in groupby(left, key=lambda chunk: chunk.cell.model):
            loaded = self._loaded(model)
            self._record(model.label, loaded.facts())
            chunks = list(of_model)
            works = {id(chunk): Work(self.plan, chunk.cell, loaded) for chunk in chunks}
            self._check(works.values())
            seen = {one.label: with_best_caption(data[one.label], one, loaded) for one in self.plan.data}
            for (label, start), same in groupby(chunks, key=lambda chunk: (chunk.cell.data.label, chunk.start)):
                together = list(same)
                items = _read(seen[label], start, max(chunk.stop for chunk in together))
                for chunk in together:
                    own = {item: pair for item, pair in items.items() if item < chunk.stop}
                    self.store.add(chunk.part, works[id(chunk)].rows(own))
                    done += len(own)
                    on_progress(Progress(done, total))

    def failures(self) -> tuple[int, int]:
        """How many measurements have an error, and how many there are."""
        errors = self.table()["error"].to_pylist()
        return sum(map(bool, errors)), len(errors)

    @property
    def manifest(self) -> Path:
        """The file with the weights, the sessions and the digests of the reports."""
        return self.folder / _PROVENANCE

    def _chunk(self, cell: Cell, start: int, stop: int) -> Chunk:
        metrics = [metric.record() for metric in self.plan.metrics]
        shared = {
            "metrics": metrics,
            "sides": self.plan.sides,
            "against": self.plan.against,
            "batch_size": self.plan.batch_size,
        }
        return Chunk(cell, start, stop, part_name({**cell.record(), **shared, "start": start, "stop": stop}))

    def _loaded(self, model: Choice) -> Model:
        return with_key(model.key, lambda: load_model(model.name, **model.options))

    def _record(self, label: str, facts: dict[str, Any]) -> None:
        told = self.provenance
        there = told["models"].get(label, facts)
        provenance.require_same(self.folder, {label: {"model": there}}, {label: {"model": facts}}, _REMEDY)
        provenance.write(self.folder / _PROVENANCE, {**told, "models": {**told["models"], label: facts}})

    def _check(self, works: Any) -> None:
        """Refuse what no pair can mend, before any is measured; what a model lacks stands in the rows instead."""
        seen: set[str] = set()
        for work in works:
            key = repr(work.cell.record())
            if key in seen:
                continue
            seen.add(key)
            error = work.check()
            if error is not None and not isinstance(error, Unsupported):
                with_key(work.cell.method.key, lambda error=error: _raise(error))


def benchmark(
    plan: str | Path | Mapping[str, Any] | Plan,
    out: str | Path,
    *,
    on_progress: OnProgress = no_progress,
) -> Run:
    """Measure a plan into a folder, or what of it is lacking there. ``docs/bench.md`` says what a plan is.

    ``plan`` is the name of one that ships with nibt, a TOML file, or what such a file holds.

    Raises:
        UnknownName: There is no such plan.
        BadInput: A file or a data set cannot be read.
        OtherRequest: The folder holds a run of another plan, other weights or other data.
        BadOption: Something in the plan cannot be; the message names its key.
        CannotLoad: A model cannot be loaded.
        CannotWrite: The folder cannot be written.

    """
    begun, data = Run.begin(plan, out)
    begun.go(data, on_progress)
    return begun


def _read(data: Dataset, start: int, stop: int) -> Items:
    found: dict[int, Any] = {}
    for item in range(start, stop):
        try:
            found[item] = data[item]
        except NibtError as error:
            found[item] = error
    return found


def _raise(error: NibtError) -> None:
    raise error


def _asked(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is asked; what its plan says about itself may change."""
    return {**stored, "plan": {key: value for key, value in stored["plan"].items() if key != "about"}}
