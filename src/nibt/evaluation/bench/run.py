"""Runs of benchmarks, which measure a plan into a folder and are resumable."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import Field
from typing_extensions import TypedDict

from nibt.data import parquet
from nibt.data.pair import Pair
from nibt.datasets.base import Dataset
from nibt.engine.batches import BatchCache, ModelCache
from nibt.engine.encode import encode
from nibt.errors import BadInput, NibtError, Unsupported
from nibt.evaluation.bench.cell import NEEDED_BY, CellRunner, encode_rows, read_rows
from nibt.evaluation.bench.choice import Choice
from nibt.evaluation.bench.plan import Cell, Plan
from nibt.evaluation.bench.summary import PluginFacts, Summary
from nibt.evaluation.bench.validation import check_plan, error_key, with_best_caption
from nibt.folder import MANIFEST, REMEDY, ChunkFile, Manifest, RunFolder, read_manifest
from nibt.io import file_digests, read_path
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress, no_progress, reporter
from nibt.records import JsonObject
from nibt.results.frames import DataFrame, pandas
from nibt.types import ModelRecord

OnStart = Callable[[str, Sequence[str]], None]
"""Called with the label of a model and the methods that it cannot run."""


class BenchmarkRequest(TypedDict):
    """The plan without its title, the lengths and contents of its data, and digests of files that options name."""

    plan: JsonObject
    lengths: dict[str, int]
    contents: JsonObject
    files: dict[str, str]


class MeasuredModel(TypedDict):
    """A model that was loaded."""

    model: ModelRecord


class BenchmarkManifest(Manifest):
    """The manifest of a benchmark, with the models and the methods that they cannot run, by their labels."""

    kind: str = "benchmark"
    request: BenchmarkRequest
    title: str
    models: dict[str, MeasuredModel] = Field({})
    skipped: dict[str, dict[str, str]] = Field({})
    plugins: PluginFacts | None = None


@dataclass(frozen=True)
class CellChunk:
    """Consecutive pairs of a cell; its name is a hash of what identifies its rows."""

    cell: Cell
    start: int
    stop: int
    name: str


@dataclass(frozen=True)
class Benchmark(RunFolder[BenchmarkManifest]):
    """The run of a plan in a folder; ``request`` is the plan with what identifies its data."""

    plan: Plan
    request: BenchmarkRequest

    manifest_class = BenchmarkManifest
    chunk_pattern = "[0-9a-f]{32}"

    @classmethod
    def open(cls, folder: str | Path) -> "Benchmark":
        """Open the run in a folder. Its models and data sets need not be available."""
        folder = read_path("folder", folder)
        manifest = read_manifest(folder, BenchmarkManifest)
        try:
            plan = Plan.read({**manifest.request["plan"], "about": manifest.title})
            for choice in plan.data:
                if choice.label not in manifest.request["lengths"]:
                    raise BadInput(f"lengths.{choice.label} is missing")
        except NibtError as error:
            raise BadInput(f"{folder / MANIFEST}: request.{error}: {REMEDY}") from error

        return cls(folder, plan, manifest.request)

    @classmethod
    def begin(
        cls, plan: str | Path | Mapping[str, object] | Plan, out: str | Path
    ) -> "tuple[Benchmark, dict[str, Dataset]]":
        """Check a plan and its folder, and return its run with its data sets. Nothing is written."""
        folder = read_path("out", out)
        plan = Plan.read(plan)
        data = check_plan(plan)
        parquet.pyarrow(NEEDED_BY)
        choices = (*plan.methods, *plan.metrics, *plan.models)
        request: BenchmarkRequest = {
            "plan": {key: value for key, value in plan.record().items() if key != "about"},
            "lengths": {label: len(data_set) for label, data_set in data.items()},
            "contents": {label: data_set.fingerprint(plan.count) for label, data_set in data.items()},
            "files": file_digests(value for choice in choices for value in choice.options.values()),
        }
        run = cls(folder, plan, request)
        run.require_request(request)
        return run, data

    def chunks(self) -> Iterator[CellChunk]:
        """Yield all chunks in the order in which they are measured.

        For each model and data set, the first chunks of all cells come first, then the second chunks of all cells, and
        so on. So each pair is read once, the remaining time can be estimated early, and a stopped run has results of
        all methods. Methods that were skipped have no chunks.
        """
        plan = self.plan
        shared = {
            "sides": plan.sides,
            "against": plan.against,
            "batch_size": plan.batch_size,
            "metrics": [metric.record() for metric in plan.metrics],
        }
        skipped = self.manifest.skipped if (self.folder / MANIFEST).exists() else {}
        for model in plan.models:
            for data in plan.data:
                length = self.request["lengths"][data.label]
                cells = [
                    cell for cell in plan.cells(model, data) if cell.method.label not in skipped.get(model.label, ())
                ]
                for start in range(0, length, plan.batch_size):
                    for cell in cells:
                        count = plan.length(cell.method, length)
                        if start >= count:
                            continue

                        stop = min(start + plan.batch_size, count)
                        identity = {**cell.record(), **shared, "start": start, "stop": stop}
                        text = json.dumps(identity, sort_keys=True, default=str)
                        yield CellChunk(cell, start, stop, sha256(text.encode()).hexdigest()[:32])

    def missing_chunks(self) -> list[CellChunk]:
        """Return the chunks that are not measured."""
        files = self.files()
        return [chunk for chunk in self.chunks() if chunk.name not in files]

    def table(self) -> Any:
        """Return all rows as a ``pyarrow.Table``, cell by cell in the order of the plan."""
        files = self.files()
        cells = dict[str, list[Path]]()
        for chunk in self.chunks():  # the chunks of a cell are in the order of its pairs
            cells.setdefault(repr(chunk.cell.record()), []).extend(files.get(chunk.name, [])[:1])
        return read_rows(path for paths in cells.values() for path in paths)

    def frame(self) -> DataFrame:
        """Return all rows as a ``pandas.DataFrame``. The columns are described in ``docs/reference/plans.md``."""
        pandas()
        return self.table().to_pandas()

    def summary(self, base: str | None = None) -> Summary:
        """Summarize the rows; ``summary().lines`` is a ``pandas.DataFrame`` with a line per method and metric.

        Args:
            base: The method that the others are compared with, as in ``write_report``.
        """
        return Summary.of(self.plan, self.frame(), base, self.manifest.plugins)

    def failures(self) -> tuple[int, int]:
        """Return the number of measurements with an error, and the number of all measurements."""
        errors = self.table()["error"].to_pylist()
        return sum(map(bool, errors)), len(errors)

    def measure_missing(
        self, data: Mapping[str, Dataset], on_progress: OnProgress = no_progress, on_start: OnStart | None = None
    ) -> None:
        """Measure the chunks that are not measured."""
        with self.writing(self.request, title=self.plan.about):
            self.update(plugins=PluginFacts.of(self.plan))
            missing = self.missing_chunks()
            if missing:
                self.fill(self._measured(missing, data, on_progress, on_start))
            else:
                for model in self.plan.models:  # check that the weights are those of the stored chunks
                    self._load(model)

    def _measured(
        self, missing: list[CellChunk], data: Mapping[str, Dataset], on_progress: OnProgress, on_start: OnStart | None
    ) -> Iterator[ChunkFile]:
        done = 0
        total = _count(missing)
        for choice, of_model in groupby(missing, key=lambda chunk: chunk.cell.model):
            model = self._load(choice)
            chunks = list(of_model)
            skipped = self._skip(choice.label, chunks, model)
            total -= _count(chunk for chunk in chunks if chunk.cell.method.label in skipped)
            chunks = [chunk for chunk in chunks if chunk.cell.method.label not in skipped]
            if not chunks:
                continue

            data_sets = {entry.label: with_best_caption(data[entry.label], entry, model) for entry in self.plan.data}
            if on_start is not None:
                on_start(choice.label, list(skipped))
            for chunk, content in self._measured_by(model, chunks, data_sets):
                yield ChunkFile(chunk.name, content)
                done += chunk.stop - chunk.start
                on_progress(Progress(done, total))

    def _measured_by(
        self, model: Model, chunks: Iterable[CellChunk], data_sets: Mapping[str, Dataset]
    ) -> Iterator[tuple[CellChunk, bytes]]:
        """Yield the chunks of a model with their contents."""
        of_model = ModelCache()
        is_warm = False
        for (label, start), of_cells in groupby(chunks, key=lambda chunk: (chunk.cell.data.label, chunk.start)):
            with_same_start = list(of_cells)
            items = _read_items(data_sets[label], range(start, max(chunk.stop for chunk in with_same_start)))
            first = next((pair for pair in items.values() if isinstance(pair, Pair)), None)
            if first is not None and not is_warm:  # a first forward pass is slow
                encode(model.image, [first.image])
                encode(model.text, [first.caption])
                is_warm = True

            for stop, with_same_pairs in groupby(with_same_start, key=lambda chunk: chunk.stop):
                of_chunk = {item: pair for item, pair in items.items() if item < stop}
                cache = BatchCache(model, of_model)  # without the traces of other pairs
                for chunk in with_same_pairs:
                    rows = CellRunner(self.plan, chunk.cell, model).rows(of_chunk, cache)
                    yield chunk, encode_rows(rows)

    def _load(self, choice: Choice) -> Model:
        """Load a model, and record it or check that it equals the recorded one."""
        with error_key(choice.key):
            model = load_model(choice.name if choice.instance is None else choice.instance, **choice.options)
        self.agree({choice.label: {"model": model.facts()}}, "models")
        return model

    def _skip(self, label: str, chunks: Iterable[CellChunk], model: Model) -> dict[str, str]:
        """Check each cell before any pair is measured, and record the methods of ``*`` that the model cannot run.

        A method that the plan names is refused, unless another of its models may run it: then its rows have the error.
        """
        skipped: dict[str, str] = {}
        for cell in {repr(chunk.cell.record()): chunk.cell for chunk in chunks}.values():
            with error_key(cell.method.key):
                try:
                    CellRunner(self.plan, cell, model).spec()
                except Unsupported as error:
                    if cell.method.any_plugin:
                        skipped[cell.method.label] = str(error)
                    elif len(self.plan.models) == 1:
                        raise

        if skipped:
            self.update(skipped={**self.manifest.skipped, label: skipped})
        return skipped


def benchmark(
    plan: str | Path | Mapping[str, object] | Plan, out: str | Path, *, on_progress: OnProgress | None = None
) -> Benchmark:
    """Measure a plan into a folder, or resume the run that is in the folder.

    Args:
        plan: The name of a plan that ships with nibt, a TOML file, or a mapping with the same keys. The format is
            described in ``docs/reference/plans.md``. In a mapping, an entry may also be an object: a loaded model, a
            ``Dataset``, a ``Method`` or a ``Metric``.
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
    report = reporter(on_progress)
    run, data = Benchmark.begin(plan, out)
    run.measure_missing(data, report)
    return run


def _read_items(data: Dataset, places: range) -> dict[int, Pair | NibtError]:
    """Return the pairs of a data set by their places, or the error of a pair that cannot be read."""
    items: dict[int, Pair | NibtError] = {}
    for item in places:
        try:
            items[item] = data[item]
        except NibtError as error:
            items[item] = error

    return items


def _count(chunks: Iterable[CellChunk]) -> int:
    return sum(chunk.stop - chunk.start for chunk in chunks)
