"""``nibt batch`` and ``nibt verify``: many pairs into a folder; a job that was stopped is resumed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import MethodOptions, ModelOptions, QuietOptions, RunOptions, TargetOptions
from nibt.errors import BadOption


@dataclass(frozen=True, kw_only=True)
class PairsOptions(OptionGroup, panel="Data"):
    """Where the pairs are."""

    pairs: Annotated[
        list[str] | None,
        Argument(
            help="A .csv, .tsv, .jsonl or .parquet file, .tar shards (also as shards/{000..099}.tar), a folder of "
            "these, of images with a .txt beside each, what the package datasets saved to disk, or NAME:FOLDER.",
        ),
    ] = None
    image: Annotated[
        str, Option(help="The column of images: paths from the folder of the file, or bytes. Of shards: the ending.")
    ] = "image"
    caption: Annotated[str, Option(help="The column of captions.")] = "caption"
    key: Annotated[str | None, Option(help="A column with your own names of the rows.")] = None
    split: Annotated[str | None, Option(help="Of a saved data set that has several.")] = None
    chunk_size: Annotated[int, Option(help="Rows per file: what is lost at most if a run is killed.")] = 256


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions(OptionGroup, panel="Execution"):
    """Where a job runs."""

    on: Annotated[str, Option(help="local: this process; ray: workers, here or on a cluster.")] = "local"
    workers: Annotated[int, Option(help="With ray: how many.")] = 1
    cpus: Annotated[float, Option(help="With ray: processors per worker, which are its threads.")] = 1
    gpus: Annotated[float, Option(help="With ray: accelerators per worker; 0.5 puts two workers on one.")] = 0
    address: Annotated[
        str | None, Option(help="With ray: the address of a cluster; without it, one is started here.")
    ] = None
    send_images: Annotated[
        bool, Option("--send-images", help="With ray: send images to workers that cannot reach them.")
    ] = False

    def __post_init__(self) -> None:
        for name, value in (("--address", self.address), ("--send-images", self.send_images), ("--gpus", self.gpus)):
            if value and self.on != "ray":
                raise BadOption(f"{name} is for workers: give --on ray, too")


@dataclass(frozen=True, kw_only=True)
class JobOptions(RunOptions):
    """The folder of a job."""

    out: Annotated[
        Path | None, Option("--out", "-o", metavar="DIR", help="The folder of the job; one that exists is resumed.")
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
    """Explain many pairs into a folder of Parquet files. Then: nibt show DIR ROW.

    A job that was killed at any moment is resumed by the same command. A pair that cannot be read is recorded in its
    row.
    """
    if not pairs.pairs:
        raise BadOption("give the pairs: nibt batch PAIRS --out DIR")
    if job.out is None:
        raise BadOption("say where the answers go: --out DIR")
    if model.model is None and not job.quiet:
        typer.echo("The model is lite, which ships with nibt: another by -m", err=True)
    from nibt.cli.progress import interruptible, shown
    from nibt.jobs.run import batch as run

    out = job.out
    with interruptible(lambda: _kept(out)), shown("explaining", job.quiet) as on_progress:
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
        typer.echo(f"{rows:,} rows written, {failed:,} failed; now: nibt show {out} ROW")
    for warning in result.manifest.warnings:
        typer.echo(f"nibt: {warning}", err=True)
    if failed:
        typer.echo(f"nibt: {failed:,} of {rows:,} rows failed; the column error of {out} says why", err=True)
    if failed == rows or (failed and job.strict):
        raise typer.Exit(1)


def _kept(out: Path) -> str:
    """What is left of a job that was interrupted, and how to resume it."""
    from nibt.jobs.job import Job

    job = Job(out)
    if not job.store.parts():
        return "nothing was explained yet, and nothing is kept"
    return f"{job.tally()['rows']:,} rows are kept in {out}; the same command resumes the job"


@expand_groups
def verify(folder: Annotated[Path, Argument(metavar="DIR", help="The folder of a job.")], output: QuietOptions) -> None:
    """Check that a job is complete: each row once, each file as it was written."""
    from nibt.jobs.job import Job

    job = Job.open(folder)
    problems = job.check()
    if not output.quiet:
        for problem in problems:
            typer.echo(problem)
        if not problems:
            typer.echo(f"{folder} is complete: {job.manifest.rows:,} rows, each once")
    if problems:
        raise typer.Exit(1)
