"""``nibt batch`` and ``nibt verify``, which explain many pairs into a folder and check the folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import MethodOptions, ModelOptions, QuietOptions, RunOptions, TargetOptions
from nibt.cli.terminal import complain, say
from nibt.errors import BadOption
from nibt.options import BatchSize, NotNegative, Positive, Workers


@dataclass(frozen=True, kw_only=True)
class PairsOptions(OptionGroup, panel="Data"):
    """The pairs, and the columns of tables."""

    pairs: Annotated[
        list[str] | None,
        Argument(
            help="A .csv, .tsv, .jsonl or .parquet file; .tar shards (also as shards/{000..099}.tar); a folder of "
            "these; a folder of images with captions in .txt files; a data set that the package datasets saved to "
            "disk; or NAME:FOLDER.",
        ),
    ] = None
    image: Annotated[
        str, Option(help="The column of images: paths relative to the table, or bytes. In shards: the file ending.")
    ] = "image"
    caption: Annotated[str, Option(help="The column of captions.")] = "caption"
    key: Annotated[str | None, Option(help="The column with your identifiers of the rows.")] = None
    split: Annotated[str | None, Option(help="The split of a data set that the package datasets saved.")] = None
    chunk_size: Annotated[
        BatchSize, Option(help="The number of rows per file. A run that is killed loses fewer rows than that.")
    ] = 256


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions(OptionGroup, panel="Execution"):
    """Where a job runs."""

    on: Annotated[str, Option(help="local (this process) or ray (workers on this machine or a cluster).")] = "local"
    workers: Annotated[Workers, Option(help="With ray: the number of workers.")] = 1
    cpus: Annotated[Positive, Option(help="With ray: CPUs per worker, which are also its threads.")] = 1
    gpus: Annotated[NotNegative, Option(help="With ray: GPUs per worker; with 0.5, two workers share a GPU.")] = 0
    address: Annotated[
        str | None, Option(help="With ray: the address of a cluster. Default: a temporary cluster on this machine.")
    ] = None
    send_images: Annotated[
        bool, Option("--send-images", help="With ray: send the images to workers that cannot read the files.")
    ] = False

    def __post_init__(self) -> None:
        for name, value in (("--address", self.address), ("--send-images", self.send_images), ("--gpus", self.gpus)):
            if value and self.on != "ray":
                raise BadOption(f"{name} needs --on ray (got --on {self.on}): add --on ray, or leave {name} out")


@dataclass(frozen=True, kw_only=True)
class JobOptions(RunOptions):
    """The folder of a job."""

    out: Annotated[
        Path | None, Option("--out", "-o", metavar="DIR", help="The folder of the job; an existing job is resumed.")
    ] = None


@expand_groups
def batch(
    pairs: PairsOptions,
    model: ModelOptions,
    method: MethodOptions,
    target: TargetOptions,
    execution: ExecutionOptions,
    job: JobOptions,
) -> None:
    """Explain many pairs into a folder of Parquet files. nibt show DIR ROW draws a row.

    If a job was killed, the same command resumes it. An error that concerns one pair is recorded in its row.
    """
    if not pairs.pairs:
        raise BadOption("the pairs are missing: nibt batch PAIRS --out DIR")
    if job.out is None:
        raise BadOption("a job needs a folder: give --out DIR")
    if model.model is None and not job.quiet:
        say("The model is lite, which ships with nibt; choose another one with -m", err=True)
    from nibt.cli.progress import interruptible, show_progress
    from nibt.jobs.run import batch as run

    out = job.out
    with interruptible(lambda: _kept(out)), show_progress("explaining", job.quiet) as on_progress:
        result = run(
            model.model or "lite",
            pairs.pairs[0] if len(pairs.pairs) == 1 else pairs.pairs,
            out,
            method.method,
            image=pairs.image,
            caption=pairs.caption,
            key=pairs.key,
            split=pairs.split,
            chunk_size=pairs.chunk_size,
            variant=method.variant,
            batch_size=model.batch_size,
            seed=method.seed,
            loading=model.loading,
            on=execution.on,
            workers=execution.workers,
            cpus=execution.cpus,
            gpus=execution.gpus,
            address=execution.address,
            send_images=execution.send_images,
            on_progress=on_progress,
            **target.contrast,
            **method.chosen,
        )
    rows, failed = result.manifest.rows, result.manifest.errors or 0
    if not job.quiet:
        say(f"{rows:,} rows written, {failed:,} failed; to draw a row: nibt show {out} ROW")
    for warning in result.manifest.warnings:
        complain(warning)
    if failed:
        complain(f"{failed:,} of {rows:,} rows failed:")
        for error in result.first_errors():
            complain(error)
    if failed == rows or (failed and job.strict):
        raise typer.Exit(1)


def _kept(out: Path) -> str:
    """Return a description of the rows that an interrupted job keeps, and how to resume it."""
    from nibt.jobs.job import Job

    job = Job(out)
    if not job.chunks():
        return "no rows are kept, since none was written yet"
    return f"{job.tally()['rows']:,} rows are kept in {out}; the same command resumes the job"


@expand_groups
def verify(folder: Annotated[Path, Argument(metavar="DIR", help="The folder of a job.")], output: QuietOptions) -> None:
    """Check that a job is complete: each row is stored exactly once, and no file was changed."""
    from nibt.jobs.job import Job

    job = Job.open(folder)
    problems = job.check()
    if not output.quiet:
        for problem in problems:
            say(problem)
        if not problems:
            say(f"{folder} is complete: {job.manifest.rows:,} rows, each stored once")
    if problems:
        raise typer.Exit(1)
