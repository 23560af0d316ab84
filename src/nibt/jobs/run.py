"""Runs of jobs: the missing chunks of a folder are explained, in this process or by several workers."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

from torch import nn

from nibt.data import parquet
from nibt.data.images import ImageSource
from nibt.data.pair import Texts
from nibt.datasets._opening import Pairs, open_rows, order_of
from nibt.datasets._table import TableDataset, as_utf8
from nibt.datasets.base import Dataset, Record
from nibt.engine.targets import check_target_name
from nibt.errors import BadInput, BadOption, OtherRequest
from nibt.folder import ChunkFile
from nibt.io import read_path
from nibt.jobs._chunks import Chunk, Chunks, JobSpec, Shard
from nibt.jobs.job import Job
from nibt.jobs.ray import Cluster
from nibt.jobs.rows import compared_columns
from nibt.jobs.shards import join_shards, shard_job
from nibt.jobs.worker import worker_of
from nibt.models._loaded import LoadedModel, default_method, is_served
from nibt.models._request import check_unset
from nibt.options import BatchSize, Keywords, Workers, check_mapping, parsed
from nibt.progress import OnProgress, Progress, reporter
from nibt.records import JsonObject
from nibt.registry import MethodSpec, available

OnDescription: TypeAlias = Callable[[JsonObject], None]
Explain: TypeAlias = Callable[[JobSpec, Dataset, Iterator[Chunk], OnDescription], Iterator[ChunkFile]]
EXECUTIONS = ("local", "ray")
_COMPARED = ("row", "key", "source", "image_hash", "error")
_MOST = 3  # the number of differences in a message
_CHUNK = 256  # rows of a file
_CHUNK_OF_SERVED = 8  # of a model behind a server, each row of which takes many requests
_REQUEST = ("method", "target", "targets", "model", "batch_size")  # targets are those of the sides of pairs


@dataclass
class JobRun:
    """One run of a job in its locked folder, with the number of rows and of those that are done."""

    job: Job
    data: Dataset
    spec: JobSpec
    explain: Explain
    on_progress: OnProgress
    shard: Shard | None = None
    total: int | None = None
    done: int = 0

    def run(self, execution: JsonObject) -> None:
        """Explain the missing rows. The manifest records where they were computed."""
        retry = set[int]()
        differences = list(islice(_differences(self.job, self.data, self._advance, retry), _MOST + 1))
        if differences:
            more = "\n  ..." if len(differences) > _MOST else ""
            lines = "".join(f"\n  {difference}" for difference in differences[:_MOST])
            raise OtherRequest(
                f"{self.job.folder} has the results of other images or captions:{lines}{more}\nChoose a new folder."
            )

        complete = self.job.chunks().keys() - retry

        def is_wanted(number: int) -> bool:
            return number not in complete and (self.shard is None or self.shard.has(number))

        chunks = Chunks(self.data, self.job.chunk_size, is_wanted)
        missing = iter(chunks)
        first = list(islice(missing, 1))
        if not first and not chunks.count:
            raise BadInput(
                "there are no rows: give a table, shards or a folder with at least one pair, and a count above 0"
            )

        files = self.explain(
            self.spec,
            self.data,
            chain(first, missing),
            self._agree,
        )
        if not first and self.job.manifest.rows == chunks.count:
            list(files)  # only compares the request
        else:
            self.job.fill(self._finished(files, chunks), **execution)

    def _agree(self, facts: JsonObject) -> None:
        """Record what is computed, or check that it is what the folder has."""
        self.job.agree({name: facts[name] for name in _REQUEST if name in facts})
        if facts["fingerprint"] is not None:
            self.job.agree_model(facts["fingerprint"])

    def _finished(self, files: Iterator[ChunkFile], chunks: Chunks) -> Iterator[ChunkFile]:
        """Yield the files, and complete the manifest after the last one is written."""
        for file in files:
            yield file
            self._advance(file.rows)

        self.job.update(**self.job.tally() | {"rows": chunks.count})
        problems = self.job.check()
        if problems:
            raise BadInput(f"the job is not complete ({'; '.join(problems[:3])}): run it again")

    def _advance(self, rows: int = 1) -> None:
        self.done += rows
        self.on_progress(Progress(self.done, self.total))


def batch(
    model: LoadedModel | str | Path | nn.Module,
    pairs: Pairs,
    out: str | Path,
    method: str | None = None,
    target: str | None = None,
    *,
    image: str = "image",
    caption: str = "caption",
    prompt: str | None = None,
    answer: str | None = None,
    key: str | None = None,
    split: str | None = None,
    data_options: Keywords | None = None,
    chunk_size: int | None = None,
    variant: str | None = None,
    against: Texts = (),
    against_images: ImageSource | Sequence[ImageSource] = (),
    templates: Sequence[str] = (),
    batch_size: int = 8,
    seed: int | None = None,
    loading: Keywords | None = None,
    on: str = "local",
    workers: int = 1,
    cpus: int | float = 1,
    gpus: int | float = 0,
    address: str | None = None,
    send_images: bool = False,
    shard: str | None = None,
    on_progress: OnProgress | None = None,
    **options: object,
) -> Job:
    """Explain many pairs, or many answers of a generator, and write the results into a folder of Parquet files.

    A job is resumable: if it was killed, the same call explains the missing rows. An error that concerns one pair is
    recorded in its row.

    A table may have a column with what each row is compared with: ``against`` for captions, or ``against_image`` for
    images. The rows are then explained one by one.

    Of a log of samples of lmms-eval, a .jsonl file, or predictions of MTEB, ``mteb:FILE``, what is wrong is explained.

    A table with a column ``prompt``, and without one of captions, is for a generator. Each row is explained as by
    ``explain_answer``. The explained answer is that in the column ``answer``, or, without one, the answer that the
    model writes.

    Args:
        model: A loaded model, or what ``load_model`` takes; for prompts, a generator, or what ``load_generator`` takes.
            A generator behind a server ends the job if the server cannot be reached or a limit is reached, and the same
            call resumes it; another model under the same name is refused.
        pairs: A CSV, TSV, JSON Lines or Parquet file; WebDataset shards (a tar file, a list, or a pattern such as
            ``shards/{000..099}.tar``); a folder of these; a folder of images with captions in text files; a folder that
            the package ``datasets`` saved to disk; ``NAME:FOLDER`` for a data set; or a ``Dataset``.
        out: The folder of the job.
        method: The name of the method, or its text with a variant and options (``"nib:paper steps=5"``). None means
            ``nib``, and ``occlusion`` for a generator behind a server.
        target: The name of the target, as in ``explain``.
        image: The column with the images.
        caption: The column with the captions.
        prompt: The column with the prompts of a generator; None means ``prompt``, if there are no captions.
        answer: The column with the answers to the prompts; None means ``answer``, if there is one.
        key: The column with your identifiers of the rows.
        split: The split of a data set that has splits, such as one that the package ``datasets`` saved.
        data_options: Other options of the data set ``NAME:FOLDER``, or of a log: ``{"data": "pope"}`` is where the
            images of a log of lmms-eval are.
        chunk_size: The number of rows per file. A run that is stopped loses fewer rows than that. None means 256, and 8
            for a generator behind a server.
        variant: A variant of the method; None means that of its text, or ``default``.
        against: Captions that the target compares with; for prompts one word, as in ``explain_answer``.
        against_images: Images that the target compares with.
        templates: Templates of captions with ``{}``, for the target ``ensemble``.
        batch_size: The largest number of pairs, or of words of an answer, that go through the model together.
        seed: A seed for methods that draw at random.
        loading: Options of ``load_model`` or ``load_generator``.
        on: Where the job runs: "local", or "ray" for workers on a cluster. The results are identical if the hardware,
            the number of threads and the versions are the same.
        workers: The number of workers; this and the next four are for "ray".
        cpus: CPUs per worker, which are also its threads.
        gpus: GPUs per worker; may be a fraction.
        address: The address of a cluster; None runs the workers on this machine.
        send_images: Send the bytes of the images to the workers, which then need no access to the files.
        shard: Which share of the chunks is explained, such as "3/16" for the third of 16, for array jobs of a cluster.
            It is written into a folder of its own inside ``out``, as a job that has some of the rows. The same call
            without a shard takes over what the shards have written, explains what is missing, and completes the job.
        on_progress: Called after each file with the number of rows that are done.
        **options: Options of the method.

    Returns:
        The job.

    Raises:
        BadInput: The pairs cannot be opened, or another run is writing into the folder or one of its shards.
        OtherRequest: The folder has a job with another request, or its pairs were changed.
        WouldOverwrite: The folder has other files than those of a job.
        BadOption: An option has an invalid value.
        UnknownName: No method, target, variant or option has that name.
        CannotLoad: The model cannot be loaded.
        CannotWrite: The folder cannot be written, or the disk is full; finished files are kept.
        ServerFailed: A server cannot be reached, refuses access, or would be asked more than its limit.
        Unsupported: pyarrow or ray is not installed.
    """
    report = reporter(on_progress)
    folder = read_path("out", out)
    check_mapping("loading", loading)
    check_mapping("data_options", data_options)
    if isinstance(model, LoadedModel):
        check_unset("a loaded model", **(loading or {}))
    if chunk_size is None:
        chunk_size = _CHUNK_OF_SERVED if is_served(model) else _CHUNK
    batch_size = parsed("batch_size", batch_size, BatchSize)
    chunk_size = parsed("chunk_size", chunk_size, BatchSize)
    workers = parsed("workers", workers, Workers)
    of_shard = None if shard is None else Shard.parse(shard)
    of_cluster = {"workers": workers, "cpus": cpus, "gpus": gpus, "address": address, "send_images": send_images}
    _check_execution(on, of_cluster)

    # names are checked before a model is loaded
    method_spec = MethodSpec.of(default_method(model) if method is None else method, variant, options, seed)
    check_target_name(target)
    parquet.pyarrow("a job needs")
    spec = JobSpec(
        model,
        method_spec,
        target,
        against,
        against_images,
        templates,
        batch_size,
        seed,
        dict(loading or {}),
    )
    columns: JsonObject = {"image": image, "caption": caption, "key": key, "split": split}
    data = open_rows(pairs, prompt, answer, options=data_options, **columns)
    columns = _columns_of(data, columns)
    if is_served(model) and not data.has_prompts:
        raise BadInput(
            "a generator behind a server answers prompts, and the rows have captions: give a table with a column prompt"
        )

    execution: JsonObject = {"on": on}
    explain: Explain = _run_locally
    if on == "ray":
        cluster = Cluster(workers, float(cpus), float(gpus), address, send_images)
        execution = execution | cluster.record()
        explain = cluster.explain

    job = Job(folder) if of_shard is None else shard_job(folder, of_shard)
    request = {"pairs": {**data.identity(), **order_of(data), **columns}, "chunk_size": chunk_size}
    numbers = None if of_shard is None else [of_shard.number, of_shard.count]
    with job.writing(request, names=_names_of(pairs), data_options=_absolute_options(data_options), shard=numbers):
        if of_shard is None:
            join_shards(job)
        total = None if on_progress is None or of_shard is not None else data.known_length()
        JobRun(job, data, spec, explain, report, of_shard, total).run(execution)

    return job


def _check_execution(on: str, of_cluster: Mapping[str, object]) -> None:
    """Check where a job runs, and that nothing is set of a cluster without one."""
    if on not in EXECUTIONS:
        raise BadOption(f"on must be one of {', '.join(EXECUTIONS)} (got {on!r})")

    changed = [option.name for option in fields(Cluster) if of_cluster[option.name] != option.default]
    if on != "ray" and changed:
        raise BadOption(f"{' and '.join(changed)} need on='ray' (got on={on!r}): set it, or leave them out")


def _columns_of(data: Dataset, columns: JsonObject) -> JsonObject:
    """Return the columns that a job reads: those of pairs or of prompts, and that of what each row is compared with."""
    if not isinstance(data, TableDataset):
        return {**columns, "prompt": None} if data.has_prompts else columns

    if data.has_prompts:
        others = {name: column for name, column in columns.items() if name in ("key", "split")}
        columns = {"image": columns["image"], "prompt": data.prompt, "answer": data.answer, **others}
    if data.compares:
        columns = {**columns, "against": data.against}
    return columns


def _names_of(pairs: Pairs) -> list[str] | None:
    """Return the absolute names of the files or folders with pairs; None for a data set in memory."""
    sources = [pairs] if isinstance(pairs, str | os.PathLike) else pairs
    return None if isinstance(sources, Dataset) else [_absolute_name(os.fspath(source)) for source in sources]


def _absolute_options(options: Keywords | None) -> Keywords | None:
    """Return the options of a data set as plain data, with the absolute names of files and folders."""
    return options and {
        name: os.path.abspath(value) if isinstance(value, str | os.PathLike) and os.path.exists(value) else value
        for name, value in options.items()
    }


def _run_locally(
    spec: JobSpec, data: Dataset, chunks: Iterator[Chunk], on_description: OnDescription
) -> Iterator[ChunkFile]:
    """Explain chunks with one worker in this process."""
    worker = worker_of(spec, data)
    on_description(worker.introduce())
    yield from worker.explain_chunks(chunks)


def _absolute_name(name: str) -> str:
    data_set, colon, folder = name.partition(":")
    if data_set in available("datasets") and not os.path.exists(name):
        inside = _absolute_name(folder) if data_set == "grid" else os.path.abspath(os.path.expanduser(folder))
        return f"{data_set}:{inside}" if colon else data_set
    return os.path.abspath(os.path.expanduser(name))


def _differences(job: Job, data: Dataset, on_row: Callable[[], None], retry: set[int]) -> Iterator[str]:
    """Yield how the keys, captions and images of a data set differ from those of the rows of a job."""
    chunks = set(job.chunks())
    size = job.chunk_size
    records = (record for record in data.records(lambda row: row // size in chunks) if record is not None)
    texts = ("prompt", "forced_answer") if job.has_prompts else ("caption", "against", "against_hash")
    for row in job.rows((*_COMPARED, *texts)):
        on_row()
        record = next(records, None)
        while record is not None and record.row < row["row"]:
            record = next(records, None)
        if record is None or record.row != row["row"]:
            yield f"row {row['row']}: {row['source']!r} (now missing)"
        elif row["error"] is None:
            yield from _difference(record, row)
        elif record.digest() != row["image_hash"] or (
            compared_columns(record).get("against_hash", "") != (row.get("against_hash") or "")
        ):
            retry.add(record.row // size)


def _difference(record: Record, row: JsonObject) -> Iterator[str]:
    if not record.source and record.image is None:
        return  # data sets that generate their pairs are compared as a whole

    now: JsonObject = {"key": as_utf8(record.key), "source": as_utf8(record.source)}
    if "prompt" in row:
        now |= {"prompt": (record.caption or "").strip(), "forced_answer": record.answer}
    else:
        now |= {"caption": record.caption, **compared_columns(record)}

    for name, value in now.items():
        if row[name] != value:
            yield f"row {row['row']}: {name} {row[name]!r} (now {value!r})"
            return

    digest = record.digest()
    if digest != row["image_hash"]:
        yield (f"row {row['row']}: {record.source} with the digest {row['image_hash']} (now {digest or 'unreadable'})")
