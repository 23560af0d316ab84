"""``nibt batch``, which explains many pairs into a folder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import BatchedModelOptions, MethodOptions, RunOptions, TargetOptions, typed_assignments
from nibt.cli.progress import interruptible, show_progress
from nibt.cli.terminal import complain, say
from nibt.errors import BadOption
from nibt.options import BatchSize, Keywords, NotNegative, Positive, Workers

if TYPE_CHECKING:
    from nibt.jobs.job import Job

_COLUMNS = ("image", "caption", "prompt", "answer", "key", "split")
_RAY = {"workers": Workers, "cpus": Positive, "gpus": NotNegative, "address": str, "send_images": bool}


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
    data_option: Annotated[
        list[str] | None,
        Option(
            "-D",
            metavar="NAME=VALUE",
            help="An option of the data: image, caption (or for a generator prompt and answer) and key name columns "
            "(image: paths relative to the table, or bytes; in shards the file ending), split a split that the package "
            "datasets saved; repeatable.",
        ),
    ] = None
    chunk_size: Annotated[
        BatchSize, Option(help="The number of rows per file. A run that is killed loses fewer rows than that.")
    ] = 256


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions(OptionGroup, panel="Execution"):
    """Where a job runs."""

    ray: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=VALUE",
            help="Run on Ray: workers (their number), cpus and gpus per worker, address of a cluster (default: a "
            "temporary one on this machine), send_images=true for workers that cannot read the files; repeatable.",
        ),
    ] = None

    @property
    def arguments(self) -> Keywords:
        """The arguments of ``nibt.batch``."""
        if self.ray is None:
            return {}
        return {"on": "ray", **typed_assignments(self.ray, "--ray", _RAY)}


@expand_groups
def batch(
    pairs: PairsOptions,
    model: BatchedModelOptions,
    method: MethodOptions,
    target: TargetOptions,
    execution: ExecutionOptions,
    job: RunOptions,
) -> None:
    """Explain many pairs into a folder of Parquet files. nibt show DIR ROW draws a row.

    A table with columns image and prompt, and perhaps answer, is for a generator, as in nibt answer.

    If a job was killed, the same command resumes it. An error that concerns one pair is recorded in its row.
    """
    if not pairs.pairs:
        raise BadOption("the pairs are missing: nibt batch PAIRS --out DIR")
    if job.out is None:
        raise BadOption("a job needs a folder: give --out DIR")
    columns = typed_assignments(pairs.data_option, "-D", dict.fromkeys(_COLUMNS, str))
    if model.model is None and not job.quiet:
        say("The model is lite, which ships with nibt; choose another one with -m", err=True)
    from nibt.jobs.job import Job
    from nibt.jobs.run import batch as run
    from nibt.models._request import GenerationOptions, LoadOptions

    out, started = job.out, Job(job.out)
    files_before = started.chunks()
    with interruptible(lambda: _kept(started)), show_progress("explaining", job.quiet) as on_progress:
        result = run(
            model.name,
            pairs.pairs[0] if len(pairs.pairs) == 1 else pairs.pairs,
            out,
            method.method,
            chunk_size=pairs.chunk_size,
            batch_size=model.batch_size,
            loading=model.placed(model.load, LoadOptions, GenerationOptions),
            on_progress=on_progress,
            **columns,
            **execution.arguments,
            **target.contrast,
        )
    rows, failed = result.manifest.rows, result.manifest.errors or 0
    if not job.quiet:
        done = "are there already" if files_before and result.chunks() == files_before else "written"
        say(f"{rows:,} rows {done}, {failed:,} failed; to draw a row: nibt show {out} ROW")
    for warning in result.manifest.warnings:
        complain(warning)
    if failed:
        complain(f"{failed:,} of {rows:,} rows failed:")
        for error in result.first_errors():
            complain(error)
    if failed == rows or (failed and job.strict):
        raise typer.Exit(1)


def _kept(job: "Job") -> str:
    """Return a description of the rows that an interrupted job keeps, and how to resume it."""
    if not job.chunks():
        return "no rows are kept, since none was written yet"
    return f"{job.tally()['rows']:,} rows are kept in {job.folder}; the same command resumes the job"
