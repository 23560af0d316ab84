"""A run of a job: what is lacking in its folder is explained, here or by many workers, until all of it is there."""

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
from nibt.jobs.job import KIND, MANIFEST, SCHEMA, Job
from nibt.jobs.ray import Cluster
from nibt.jobs.store import clean_start, folder_lock, traces
from nibt.jobs.worker import JobSpec, Shard, Worker
from nibt.models.base import Model
from nibt.outputs import check_run_folder
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import available, find
from nibt.results import provenance

Told: TypeAlias = Callable[[dict[str, Any]], None]
Explain: TypeAlias = Callable[[JobSpec, Dataset, Iterator[Chunk], Told], Iterator[Shard]]
ON = ("local", "ray")
_TOLD = ("method", "target", "targets", "model", "batch_size")
_REMEDY = "Choose a new folder."


@dataclass
class Run:
    """One run of a job: from what is there to all of it."""

    job: Job
    source: Dataset
    asked: JobSpec
    on: Mapping[str, Any]
    explain: Explain
    on_progress: OnProgress
    total: int | None = None
    done: int = 0
    session: dict[str, Any] = field(default_factory=dict)

    def go(self) -> None:
        """Explain what is lacking.

        Raises:
            NibtError: what was begun is another job, or nothing can be explained or written.

        """
        recomputed = self.job.store.remove_incomplete()
        again = check_contents(self.job, self.source, self._advance)
        self.session = {**provenance.session_info(), **self.on, "recomputed": recomputed, "chunks": 0, "ended": None}
        there = set(self.job.store.parts()) - again
        chunks = Chunks(self.source, self.job.chunk_size, lambda number: number not in there)
        left = iter(chunks)
        first = next(left, None)
        if first is None and not chunks.count:
            raise BadInput("there are no rows: give a table, shards or a folder with at least one pair")
        if first is None and self.job.manifest["rows"] is not None and not recomputed:
            list(self.explain(self.asked, self.source, iter(()), self._agree))  # only compares what was asked
            return
        self._record()
        try:
            if first is not None:
                self._explained(chain([first], left))
            self._finish(chunks.count or 0)
        except BaseException as error:
            with suppress(OSError):  # a full disk must not hide what went wrong
                self._record(ended=f"{type(error).__name__}: {error}")
            raise

    def _explained(self, chunks: Iterator[Chunk]) -> None:
        for shard in self.explain(self.asked, self.source, chunks, self._agree):
            self.job.store.add(shard.number, shard.data)
            self.session["chunks"] += 1
            self._advance(shard.rows)

    def _advance(self, rows: int = 1) -> None:
        self.done += rows
        self.on_progress(Progress(self.done, self.total))

    def _agree(self, told: dict[str, Any]) -> None:
        """Refuse to put other answers beside those that are there."""
        manifest = self.job.manifest
        there = manifest["asked"]
        if there is None:
            self.job.write({**manifest, "asked": told})
            return
        stored, request = ({name: one[name] for name in _TOLD} for one in (there, told))
        provenance.require_same(self.job.folder, stored, request, _REMEDY)

    def _finish(self, rows: int) -> None:
        tally = self.job.tally()
        self.job.write({**self.job.manifest, **tally, "rows": rows})
        self._record(ended="complete")
        problems = self.job.check()
        if problems:
            raise BadInput("the job is not whole: " + "; ".join(problems[:3]))

    def _record(self, ended: str | None = None) -> None:
        """This session in the manifest: as its last, where it is there already."""
        manifest = self.job.manifest
        others = [one for one in manifest["sessions"] if one["number"] != self.session.get("number")]
        self.session = {"number": len(others), **self.session, "ended": ended}
        self.job.write({**manifest, "sessions": [*others, self.session]})


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
    """Explain the pairs of a table, of shards or of a folder, and keep the answers in the folder ``out``.

    ``pairs`` is a CSV, TSV, JSON Lines or Parquet file, WebDataset shards (a tar, a list, ``shards/{000..099}.tar``), a
    folder of these, of images with captions in text files or as the data set ``folder``, what the package
    ``datasets`` saved to disk, or a ``Dataset``; ``image``, ``caption`` and ``key`` name its columns. What cannot be
    read is recorded in its row. A folder that holds the same job already is completed; killed at any moment, a job goes
    on by the same call. ``loading`` are options of ``load_model``; all others are those of ``explain``.

    With ``on="ray"`` so many ``workers``, each with its ``cpus`` (its threads) and ``gpus`` (a share of one, too),
    explain on this machine, or on the cluster with that ``address``; ``send_images`` sends them the images, where they
    cannot reach the files. The same bits come of it as long as hardware, threads and versions are the same.

    Raises:
        BadInput: there are no such pairs, or another run is writing into the folder.
        OtherRequest: the folder holds a job of another request, or its pairs were changed since.
        WouldOverwrite: the folder holds something else than a job.
        BadOption: an option cannot have that value.
        UnknownName: no method, target, variant or option has that name.
        CannotLoad: the model cannot be loaded.
        CannotWrite: the folder cannot be written, or the disk is full; what was done before is kept.
        Unsupported: pyarrow or ray is not installed.

    """
    for name, value in (("batch_size", batch_size), ("chunk_size", chunk_size), ("workers", workers)):
        if not isinstance(value, int) or value < 1:
            raise BadOption(f"{name} must be a whole number from 1 (got {value!r})")
    if on not in ON:
        raise BadOption(f"on must be one of {', '.join(ON)} (got {on!r})")
    for kind, name in (("methods", method), ("targets", target)):
        find(kind, name)
    parquet.pyarrow("a job needs")
    asked = JobSpec(
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
    source = open_pairs(pairs, **columns)
    told_on: dict[str, Any] = {"on": on}
    explain: Explain = _run_locally
    if on == "ray":
        cluster = Cluster(workers, float(cpus), float(gpus), address, send_images)
        told_on, explain = {"on": on, **cluster.record()}, cluster.explain
    job = Job(Path(out))
    check_run_folder(job.folder, MANIFEST)
    before = job.is_begun, traces(job.folder)  # raises where the manifest is somebody else's
    job.store.make()
    with folder_lock(job.folder):
        try:
            _begin(job, source, pairs, columns, chunk_size)
            total = None if on_progress is no_progress else source.known_length()
            Run(job, source, asked, told_on, explain, on_progress, total).go()
        except BaseException:
            if not before[0] and not job.is_begun:
                clean_start(job.folder, before[1])
            raise
    return job


def _run_locally(asked: JobSpec, source: Dataset, chunks: Iterator[Chunk], on_told: Told) -> Iterator[Shard]:
    """The shards of chunks, by a worker in this process."""
    worker = Worker(asked, source)
    on_told(worker.told())
    return worker.shards(chunks)


def _begin(job: Job, source: Dataset, pairs: Pairs, columns: Mapping[str, Any], chunk_size: int) -> None:
    """The manifest of a new job, or the one that is there, if it is of the same pairs in the same chunks."""
    names = None if isinstance(pairs, Dataset) else _absolute(pairs)
    told = {**source.identity(), **columns}
    layout = {"chunk": chunk_size, "ids": "the numbers of rows, from 0", "files": "parts/CHUNK-HASH.parquet"}
    if not job.is_begun:
        unknown = dict.fromkeys(("asked", "rows", "errors", "halved"))
        job.write(
            {
                "kind": KIND,
                "schema": SCHEMA,
                "pairs": {"names": names, **told},
                "layout": layout,
                **unknown,
                "warnings": [],
                "sessions": [],
            }
        )
        return
    stored = {"pairs": {**job.manifest["pairs"], "names": None}, "layout": job.manifest["layout"]}
    provenance.require_same(job.folder, stored, {"pairs": {"names": None, **told}, "layout": layout}, _REMEDY)


def _absolute(pairs: Any) -> list[str]:
    given = [pairs] if isinstance(pairs, str | os.PathLike) else pairs
    return [_absolute_name(os.fspath(one)) for one in given]


def _absolute_name(name: str) -> str:
    data_set, colon, folder = name.partition(":")
    if colon and data_set in available("datasets") and not os.path.exists(name):
        return f"{data_set}:{os.path.abspath(os.path.expanduser(folder))}"
    return os.path.abspath(os.path.expanduser(name))
