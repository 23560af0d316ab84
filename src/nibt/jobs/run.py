"""Runs of jobs: the missing chunks of a folder are explained, in this process or by several workers."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from nibt import parquet
from nibt.datasets._opening import Pairs, open_pairs
from nibt.datasets.base import Dataset
from nibt.errors import BadInput, BadOption
from nibt.jobs.chunks import Chunk, Chunks
from nibt.jobs.contents import check_contents
from nibt.jobs.job import MANIFEST, Job
from nibt.jobs.manifest import JobRequest, Layout, Manifest, PairsRecord
from nibt.jobs.ray import Cluster
from nibt.jobs.store import existing_paths, folder_lock, undo_start
from nibt.jobs.worker import ChunkFile, JobSpec, Worker
from nibt.models.base import Model
from nibt.options import BatchSize, Workers, parsed
from nibt.outputs import check_run_folder
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import available, find
from nibt.results import provenance

OnDescription: TypeAlias = Callable[[JobRequest], None]
Explain: TypeAlias = Callable[[JobSpec, Dataset, Iterator[Chunk], OnDescription], Iterator[ChunkFile]]
EXECUTIONS = ("local", "ray")
_REQUEST = ("method", "target", "targets", "model", "batch_size")
_REMEDY = "Choose a new folder."


@dataclass
class Run:
    """One run of a job.

    Attributes:
        job: The folder of the job.
        data: The data set.
        spec: The request.
        execution: Where the job runs, as plain data for the manifest.
        explain: Explains chunks, in this process or on a cluster.
        on_progress: Called with the number of rows that are done.
        total: The number of rows; None if it is unknown.
        done: The number of rows that are done.
        session: The record of this run, for the manifest.

    """

    job: Job
    data: Dataset
    spec: JobSpec
    execution: Mapping[str, Any]
    explain: Explain
    on_progress: OnProgress
    total: int | None = None
    done: int = 0
    session: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Explain the missing rows."""
        self.job.store.repair()
        retry = check_contents(self.job, self.data, self._advance)
        self.session = {
            **provenance.session_info(),
            **self.execution,
            "chunks": 0,
            "ended": None,
        }
        complete = set(self.job.store.parts()) - retry
        chunks = Chunks(self.data, self.job.chunk_size, lambda number: number not in complete)
        missing = iter(chunks)
        first = next(missing, None)
        if first is None and not chunks.count:
            raise BadInput("there are no rows: give a table, shards or a folder with at least one pair")
        if first is None and self.job.manifest.rows == chunks.count:
            list(self.explain(self.spec, self.data, iter(()), self._check_request))  # only compares the request
            return
        self._record_session()
        try:
            if first is not None:
                self._explain(chain([first], missing))
            self._finish(chunks.count or 0)
        except BaseException as error:
            with suppress(OSError):  # a full disk must not hide the error
                self._record_session(ended=f"{type(error).__name__}: {error}")
            raise

    def _explain(self, chunks: Iterator[Chunk]) -> None:
        for file in self.explain(self.spec, self.data, chunks, self._check_request):
            self.job.store.add(file.number, file.data)
            self.session["chunks"] += 1
            self._advance(file.rows)

    def _advance(self, rows: int = 1) -> None:
        self.done += rows
        self.on_progress(Progress(self.done, self.total))

    def _check_request(self, description: JobRequest) -> None:
        """Record the request of a new job, or check that it equals the recorded one."""
        manifest = self.job.manifest
        if manifest.request is None:
            self.job.write(manifest.updated(request=description))
            return
        stored, now = ({name: one[name] for name in _REQUEST} for one in (manifest.request, description))
        provenance.require_same(self.job.folder, stored, now, _REMEDY)

    def _finish(self, rows: int) -> None:
        self.job.write(self.job.manifest.updated(**{**self.job.tally(), "rows": rows}))
        self._record_session(ended="complete")
        problems = self.job.check()
        if problems:
            raise BadInput(f"the job is not complete ({'; '.join(problems[:3])}): run it again")

    def _record_session(self, ended: str | None = None) -> None:
        """Write this session into the manifest, as its last session."""
        manifest = self.job.manifest
        others = [session for session in manifest.sessions if session["number"] != self.session.get("number")]
        self.session = {"number": len(others), **self.session, "ended": ended}
        self.job.write(manifest.updated(sessions=[*others, self.session]))


def batch(
    model: Model | str | Path | nn.Module,
    pairs: Pairs,
    out: str | Path,
    method: str = "nib",
    target: str = "cosine",
    *,
    image: str = "image",
    caption: str = "caption",
    key: str | None = None,
    split: str | None = None,
    chunk_size: int = 256,
    variant: str = "default",
    against: Any = (),
    against_images: Any = (),
    templates: Sequence[str] = (),
    batch_size: int = 8,
    seed: int | None = None,
    loading: Mapping[str, Any] | None = None,
    on: str = "local",
    workers: int = 1,
    cpus: int | float = 1,
    gpus: int | float = 0,
    address: str | None = None,
    send_images: bool = False,
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> Job:
    """Explain many pairs into a folder of Parquet files.

    A job is resumable: if it was killed, the same call explains the missing rows. An error that concerns one pair is
    recorded in its row.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: A CSV, TSV, JSON Lines or Parquet file; WebDataset shards (a tar file, a list, or a pattern such as
            ``shards/{000..099}.tar``); a folder of these; a folder of images with captions in text files; a folder that
            the package ``datasets`` saved to disk; ``NAME:FOLDER`` for a data set; or a ``Dataset``.
        out: The folder of the job.
        method: The name of the method.
        target: The name of the target, the score that is explained.
        image: The column with the images.
        caption: The column with the captions.
        key: The column with your identifiers of the rows.
        split: The split of a data set that the package ``datasets`` saved.
        chunk_size: The number of rows per file.
        variant: A variant of the method.
        against: Captions that the target compares with.
        against_images: Images that the target compares with.
        templates: Templates of captions with ``{}``, for the target ``ensemble``.
        batch_size: The largest number of pairs that go through the model together.
        seed: A seed for methods that draw at random.
        loading: Options of ``load_model``.
        on: Where the job runs: "local", or "ray" for workers on a cluster. The results have the same bits if the
            hardware, the number of threads and the versions are the same.
        workers: The number of workers.
        cpus: CPUs per worker, which are also its threads.
        gpus: GPUs per worker; may be a fraction.
        address: The address of a cluster; None runs the workers on this machine.
        send_images: Send the bytes of the images to the workers, which then need no access to the files.
        on_progress: Called after each file with the number of rows that are done.
        **options: Options of the method.

    Returns:
        The job.

    Raises:
        BadInput: The pairs cannot be opened, or another run is writing into the folder.
        OtherRequest: The folder has a job with another request, or its pairs were changed.
        WouldOverwrite: The folder has other files than those of a job.
        BadOption: An option has an invalid value.
        UnknownName: No method, target, variant or option has that name.
        CannotLoad: The model cannot be loaded.
        CannotWrite: The folder cannot be written, or the disk is full; finished files are kept.
        Unsupported: pyarrow or ray is not installed.

    """
    batch_size, chunk_size = parsed("batch_size", batch_size, BatchSize), parsed("chunk_size", chunk_size, BatchSize)
    workers = parsed("workers", workers, Workers)
    if on not in EXECUTIONS:
        raise BadOption(f"on must be one of {', '.join(EXECUTIONS)} (got {on!r})")
    for kind, name in (("methods", method), ("targets", target)):
        find(kind, name)
    parquet.pyarrow("a job needs")
    spec = JobSpec(
        model,
        method,
        target,
        variant,
        against,
        against_images,
        templates,
        batch_size,
        seed,
        dict(loading or {}),
        options,
    )
    columns = {"image": image, "caption": caption, "key": key, "split": split}
    data = open_pairs(pairs, **columns)
    execution: dict[str, Any] = {"on": on}
    explain: Explain = _run_locally
    if on == "ray":
        cluster = Cluster(workers, float(cpus), float(gpus), address, send_images)
        execution, explain = {"on": on, **cluster.record()}, cluster.explain
    job = Job(Path(out))
    check_run_folder(job.folder, MANIFEST)
    was_begun, before = job.is_begun, existing_paths(job.folder)  # raises if the manifest is not that of a job
    job.store.make()
    with folder_lock(job.folder):
        try:
            _begin(job, data, pairs, columns, chunk_size)
            total = None if on_progress is no_progress else data.known_length()
            Run(job, data, spec, execution, explain, on_progress, total).run()
        except BaseException:
            if not was_begun and not job.is_begun:
                undo_start(job.folder, before)
            raise
    return job


def _run_locally(
    spec: JobSpec, data: Dataset, chunks: Iterator[Chunk], on_description: OnDescription
) -> Iterator[ChunkFile]:
    """Explain chunks with one worker in this process."""
    worker = Worker(spec, data)
    on_description(worker.describe())
    return worker.explain_chunks(chunks)


def _begin(job: Job, data: Dataset, pairs: Pairs, columns: Mapping[str, Any], chunk_size: int) -> None:
    """Write the manifest of a new job, or check that the stored one has the same pairs and the same chunk size."""
    identity = {**data.identity(), **columns}
    layout = Layout(chunk=chunk_size)
    if not job.is_begun:
        names = None if isinstance(pairs, Dataset) else _absolute_names(pairs)
        kept = (job.manifest.model_extra or {}) if (job.folder / MANIFEST).exists() else {}  # such as a note
        record = PairsRecord.model_validate({"names": names, **identity})
        job.write(Manifest(schema=3, pairs=record, layout=layout, **kept))
        return
    manifest = job.manifest
    stored = {"pairs": {**manifest.pairs.model_dump(), "names": None}, "layout": manifest.layout.model_dump()}
    now = {"pairs": {"names": None, **identity}, "layout": layout.model_dump()}
    provenance.require_same(job.folder, stored, now, _REMEDY)


def _absolute_names(pairs: Any) -> list[str]:
    names = [pairs] if isinstance(pairs, str | os.PathLike) else pairs
    return [_absolute_name(os.fspath(name)) for name in names]


def _absolute_name(name: str) -> str:
    data_set, colon, folder = name.partition(":")
    if data_set in available("datasets") and not os.path.exists(name):
        inside = _absolute_name(folder) if data_set == "grid" else os.path.abspath(os.path.expanduser(folder))
        return f"{data_set}:{inside}" if colon else data_set
    return os.path.abspath(os.path.expanduser(name))
