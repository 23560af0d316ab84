"""Runs of benchmarks, which measure a plan into a folder and are resumable."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from nibt.datasets.base import Dataset
from nibt.engine.batch_cache import BatchCache
from nibt.errors import BadInput, CannotWrite, NibtError, Unsupported
from nibt.evaluation.bench.cell import CellRunner, Items
from nibt.evaluation.bench.estimate import estimated_seconds
from nibt.evaluation.bench.plan import Cell, Choice, Plan
from nibt.evaluation.bench.store import Row, Store, part_name
from nibt.evaluation.bench.summary import Summary
from nibt.evaluation.bench.validation import check_plan, random_methods, with_best_caption, with_key
from nibt.io import file_digests
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.outputs import check_run_folder
from nibt.progress import OnProgress, Progress, no_progress
from nibt.results import provenance
from nibt.results.frames import DataFrame, pandas
from nibt.types import ModelRecord

_REMEDY = "Choose a new folder."
_PLAN, _PROVENANCE, _PARTS = "plan.json", "provenance.json", "parts"


@dataclass(frozen=True)
class Chunk:
    """Consecutive pairs of a cell.

    Attributes:
        cell: The cell.
        start: The index of the first pair.
        stop: The index after the last pair.
        part: The name of the part of the store with the rows of the chunk.

    """

    cell: Cell
    start: int
    stop: int
    part: str


@dataclass(frozen=True)
class Run:
    """The run of a plan in a folder.

    Attributes:
        folder: The folder of the run.
        plan: The plan.
        lengths: The number of pairs of each data set, by its label.

    """

    folder: Path
    plan: Plan
    lengths: Mapping[str, int]

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Open the run in a folder. Its models and data sets need not be available."""
        stored = provenance.read_json(Path(folder) / _PLAN)
        if not isinstance(stored, dict) or not all(isinstance(stored.get(key), dict) for key in ("plan", "lengths")):
            raise BadInput(f"{Path(folder) / _PLAN} is not the plan of a run of nibt bench: choose another folder")
        return cls(Path(folder), Plan.of(stored["plan"]), stored["lengths"])

    @classmethod
    def begin(cls, plan: str | Path | Mapping[str, Any] | Plan, out: str | Path) -> "tuple[Run, dict[str, Dataset]]":
        """Check a plan, and create its run or open the one that is in the folder."""
        plan = Plan.read(plan)
        data = check_plan(plan)
        folder = Path(out)
        run = cls(folder, plan, {label: len(data_set) for label, data_set in data.items()})
        run.store.check()
        check_run_folder(folder, _PLAN)
        choices = (*plan.methods, *plan.metrics, *plan.models)
        files = file_digests(value for choice in choices for value in choice.options.values())
        contents = {label: data_set.fingerprint(plan.first) for label, data_set in data.items()}
        request = {"plan": plan.record(), "lengths": dict(run.lengths), "contents": contents, "files": files}
        if (folder / _PLAN).exists():
            cls.open(folder)
            stored = provenance.read_json(folder / _PLAN)
            provenance.require_same(folder, _without_title(stored), _without_title(request), _REMEDY)
            return run, data
        try:
            (folder / _PARTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"cannot create the folder {folder}: {error.strerror or error}") from error
        provenance.write_json(folder / _PROVENANCE, {"models": {}, "sessions": []})
        provenance.write_json(folder / _PLAN, request)
        return run, data

    @property
    def store(self) -> Store:
        """The store with the rows of the finished chunks."""
        return Store(self.folder / _PARTS)

    @property
    def provenance(self) -> dict[str, Any]:
        """The models of the run and its sessions."""
        return provenance.read_json(self.folder / _PROVENANCE)

    @property
    def skipped(self) -> dict[str, dict[str, str]]:
        """The methods of ``*`` that a model cannot run, with the reasons, by the labels of models and methods."""
        return self.provenance.get("skipped", {}) if self.manifest.exists() else {}

    def chunks(self) -> Iterator[Chunk]:
        """Yield all chunks in the order in which they are measured.

        For each model and data set, the first chunks of all cells come first, then the second chunks of all cells, and
        so on. So each pair is read once, the remaining time can be estimated early, and a stopped run has results of
        all methods. Methods that were skipped have no chunks.
        """
        skipped = self.skipped
        draws = random_methods(self.plan.methods)
        for model in self.plan.models:
            for data in self.plan.data:
                cells = [
                    cell
                    for cell in self.plan.cells(model, data, draws)
                    if cell.method.label not in skipped.get(model.label, ())
                ]
                for start in range(0, self.lengths[data.label], self.plan.batch_size):
                    for cell in cells:
                        count = self.plan.count(cell.method, self.lengths[data.label])
                        if start < count:
                            yield self._chunk(cell, start, min(start + self.plan.batch_size, count))

    def missing_chunks(self) -> list[Chunk]:
        """Return the chunks that are not in the store."""
        names = self.store.names()
        return [chunk for chunk in self.chunks() if chunk.part not in names]

    def table(self) -> Any:
        """Return all rows as a ``pyarrow.Table``, cell by cell in the order of the plan."""
        cells: dict[str, list[Chunk]] = {}
        for chunk in self.chunks():  # the chunks of a cell are in the order of its pairs
            cells.setdefault(repr(chunk.cell.record()), []).append(chunk)
        return self.store.table(chunk.part for chunks in cells.values() for chunk in chunks)

    def frame(self) -> DataFrame:
        """Return all rows as a ``pandas.DataFrame``. The columns are described in ``docs/reference/plans.md``."""
        pandas()
        return self.table().to_pandas()

    def summary(self) -> Summary:
        """Summarize the rows; ``summary().lines`` is a ``pandas.DataFrame`` with a line per method and metric."""
        return Summary.of(self.plan, self.frame())

    def measure_missing(
        self,
        data: Mapping[str, Dataset],
        on_progress: OnProgress = no_progress,
        on_start: Callable[[str, Sequence[str], Callable[[], float | None]], None] | None = None,
    ) -> None:
        """Measure the chunks that are not in the store."""
        self.store.repair()
        missing = self.missing_chunks()
        if not missing:
            for model in self.plan.models:  # check that the weights are those of the stored chunks
                self._record(model.label, self._loaded(model).facts())
            return
        done, total = 0, sum(chunk.stop - chunk.start for chunk in missing)
        recorded = self.provenance
        sessions = [*recorded["sessions"], provenance.session_info()]
        provenance.write_json(self.folder / _PROVENANCE, {**recorded, "sessions": sessions})
        for model, of_model in groupby(missing, key=lambda chunk: chunk.cell.model):
            loaded = self._loaded(model)
            self._record(model.label, loaded.facts())
            chunks = list(of_model)
            runners = {chunk.part: CellRunner(self.plan, chunk.cell, loaded) for chunk in chunks}
            skipped = self._check(runners.values())
            self._skip(model.label, skipped)
            total -= sum(chunk.stop - chunk.start for chunk in chunks if chunk.cell.method.label in skipped)
            chunks = [chunk for chunk in chunks if chunk.cell.method.label not in skipped]
            data_sets = {
                choice.label: with_best_caption(data[choice.label], choice, loaded) for choice in self.plan.data
            }
            if not chunks:
                continue
            if on_start is not None:
                counts = [(runners[chunk.part], chunk.stop - chunk.start) for chunk in chunks]
                start = chunks[0].start
                pair = _read_pairs(data_sets[chunks[0].cell.data.label], start, start + 1)[start]
                on_start(model.label, list(skipped), partial(estimated_seconds, counts, pair))
            for (label, start), of_cells in groupby(chunks, key=lambda chunk: (chunk.cell.data.label, chunk.start)):
                with_same_start = list(of_cells)
                items = _read_pairs(data_sets[label], start, max(chunk.stop for chunk in with_same_start))
                for chunk, rows in _measured(with_same_start, runners, items):
                    self.store.add(chunk.part, rows)
                    done += chunk.stop - chunk.start
                    on_progress(Progress(done, total))

    def failures(self) -> tuple[int, int]:
        """Return the number of measurements with an error, and the number of all measurements."""
        errors = self.table()["error"].to_pylist()
        return sum(map(bool, errors)), len(errors)

    @property
    def manifest(self) -> Path:
        """The path of the file with the models, the sessions and the hashes of the reports."""
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

    def _record(self, label: str, facts: ModelRecord) -> None:
        """Record a model, or check that it equals the recorded one."""
        recorded = self.provenance
        stored = recorded["models"].get(label, facts)
        provenance.require_same(self.folder, {label: {"model": stored}}, {label: {"model": facts}}, _REMEDY)
        provenance.write_json(self.folder / _PROVENANCE, {**recorded, "models": {**recorded["models"], label: facts}})

    def _skip(self, label: str, skipped: Mapping[str, str]) -> None:
        """Record the methods that a model cannot run."""
        if skipped:
            recorded = self.provenance
            merged = {**recorded.get("skipped", {}), label: dict(skipped)}
            provenance.write_json(self.folder / _PROVENANCE, {**recorded, "skipped": merged})

    def _check(self, runners: Iterable[CellRunner]) -> dict[str, str]:
        """Check each cell with its loaded model before any pair is measured.

        A named method that the model does not support is not an error here: its rows record the error.
        """
        skipped: dict[str, str] = {}
        by_cell = {repr(runner.cell.record()): runner for runner in runners}
        for runner in by_cell.values():
            error = runner.check()
            if error is not None and not isinstance(error, Unsupported):
                with_key(runner.cell.method.key, lambda error=error: _raise(error))
            if error is not None and runner.cell.method.any_method:
                skipped[runner.cell.method.label] = str(error)
        return skipped


def benchmark(
    plan: str | Path | Mapping[str, Any] | Plan,
    out: str | Path,
    *,
    on_progress: OnProgress = no_progress,
) -> Run:
    """Measure a plan into a folder, or resume the run that is in the folder.

    Args:
        plan: The name of a plan that ships with nibt, a TOML file, or a mapping with the same keys. The format is
            described in ``docs/reference/plans.md``.
        out: The folder of the run.
        on_progress: Called after each chunk with the number of pairs that are done.

    Returns:
        The run, whose ``frame`` has the measurements.

    Raises:
        UnknownName: No plan has that name.
        BadInput: A file or a data set cannot be read.
        OtherRequest: The folder has a run with another plan, other weights or other data.
        BadOption: A value of the plan is not allowed; the message names its key.
        CannotLoad: A model cannot be loaded.
        CannotWrite: The folder cannot be written.

    """
    run, data = Run.begin(plan, out)
    run.measure_missing(data, on_progress)
    return run


def _read_pairs(data: Dataset, start: int, stop: int) -> Items:
    """Return pairs of a data set by their index, or the error of a pair that cannot be read."""
    items: dict[int, Any] = {}
    for item in range(start, stop):
        try:
            items[item] = data[item]
        except NibtError as error:
            items[item] = error
    return items


def _measured(
    chunks: Iterable[Chunk], runners: Mapping[str, CellRunner], items: Items
) -> Iterator[tuple[Chunk, list[Row]]]:
    """Yield chunks of one data set and one model that begin with the same pair, with their rows.

    Consecutive chunks with the same pairs share what does not depend on the method. The cache is dropped after them, so
    that it never has more than the traces of one batch.
    """
    for stop, with_same_pairs in groupby(chunks, key=lambda chunk: chunk.stop):
        of_chunk = {item: pair for item, pair in items.items() if item < stop}
        cache: BatchCache | None = None
        for chunk in with_same_pairs:
            runner = runners[chunk.part]
            cache = cache or BatchCache(runner.model)
            yield chunk, runner.rows(of_chunk, cache)


def _raise(error: NibtError) -> None:
    raise error


def _without_title(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored request of a run without the title of its plan, which may change."""
    return {**request, "plan": {key: value for key, value in request["plan"].items() if key != "about"}}
