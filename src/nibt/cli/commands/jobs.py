"""``nibt batch``, which explains many pairs into a folder, and ``nibt show``, which shows folders."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from nibt.cli.command import Command
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import (
    BatchedModelOptions,
    OutputOptions,
    RunOptions,
    ServedMethodOptions,
    ServerOptions,
    TargetOptions,
    typed_assignments,
)
from nibt.cli.output import Output, input_paths, slug
from nibt.cli.terminal import clock, complain, interruptible, say, show_progress
from nibt.errors import BadInput, BadOption
from nibt.options import BatchSize, Keywords, NotNegative, Positive, Workers, assignments
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.jobs.job import Job


_ESTIMATED = 16
"""The number of rows of each of the two files from which an estimate is made; the first one has slower rows."""
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
            "disk; a log of samples of lmms-eval (.jsonl); or NAME:FOLDER, such as mteb:FILE for predictions of MTEB.",
        ),
    ] = None
    data_option: Annotated[
        list[str] | None,
        Option(
            "-D",
            metavar="NAME=VALUE",
            help="An option of the data. The names of columns: image (paths relative to the table, or bytes; in shards "
            "the file ending), caption (for a generator prompt and answer) and key (your identifiers of rows). The "
            "name of a split: split. Of logs: data (the data set that was evaluated), metric; see nibt list datasets "
            "NAME. Repeatable.",
        ),
    ] = None
    chunk_size: Annotated[
        BatchSize | None,
        Option(
            help="The number of rows per file. A run that is killed loses fewer rows than that. Default: 256, and 8 "
            "with --server."
        ),
    ] = None


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

    shard: Annotated[
        str | None,
        Option(
            metavar="I/N",
            help="Explain only the I-th of N shares of the rows (I from 1), for array jobs of a cluster. The same "
            "command without --shard joins them. Default: all rows.",
        ),
    ] = None

    estimate: Annotated[
        bool,
        Option(
            "--estimate",
            help="Explain a few rows into a temporary folder, print the time and the disk space that all rows would "
            "take, and write nothing else.",
        ),
    ] = False

    @property
    def arguments(self) -> Keywords:
        """The arguments of ``nibt.batch``."""
        of_shard: Keywords = {} if self.shard is None else {"shard": self.shard}
        if self.ray is None:
            return of_shard
        return {"on": "ray", **typed_assignments(self.ray, "--ray", _RAY), **of_shard}


@expand_groups
def batch(
    pairs: PairsOptions,
    model: BatchedModelOptions,
    method: ServedMethodOptions,
    server: ServerOptions,
    target: TargetOptions,
    execution: ExecutionOptions,
    job: RunOptions,
) -> None:
    """Explain many pairs, and write the results into a folder of Parquet files. nibt show DIR ROW draws a row.

    A table may have a column with what each row is compared with: against (captions) or against_image (images).

    A table with columns image and prompt, and perhaps answer, is for a generator, as in nibt answer. The generator may
    be behind a server. Of logs of evaluations, by lmms-eval or MTEB, what is wrong is explained.

    If a job was killed, the same command resumes it. An error that concerns one pair is recorded in its row.
    """
    if not pairs.pairs:
        raise BadOption("the pairs are missing: nibt batch PAIRS --out DIR")
    if job.out is None and not execution.estimate:
        raise BadOption("a job needs a folder: give --out DIR")

    options = assignments(pairs.data_option or [], "-D")
    columns = {name: options.pop(name) for name in _COLUMNS if name in options}
    if model.model is None and server.server is None and not job.quiet:
        say("The model is lite, which ships with nibt; choose another one with -m", err=True)
    from nibt.jobs._chunks import Shard
    from nibt.jobs.job import Job
    from nibt.jobs.run import batch as run
    from nibt.jobs.shards import shard_job
    from nibt.models._request import GenerationOptions, LoadOptions

    explain = partial(
        run,
        model.name if server.server is None else server.server,
        pairs.pairs[0] if len(pairs.pairs) == 1 else pairs.pairs,
        method=method.method,
        batch_size=model.batch_size,
        loading=(
            model.placed(model.load, LoadOptions, GenerationOptions)
            if server.server is None
            else server.asking(server.server, model.model, model, model.load)
        ),
        data_options=options or None,
        **columns,
        **target.contrast,
    )
    if execution.estimate:
        _estimate(explain, execution)
        return

    out = job.out
    assert out is not None
    started = Job(out) if execution.shard is None else shard_job(out, Shard.parse(execution.shard))
    files_before = started.chunks()

    def kept() -> str:
        if not started.chunks():
            return "no rows are kept, since none was written yet"
        return f"{started.tally()['rows']:,} rows are kept in {started.folder}; the same command resumes the job"

    with interruptible(kept), show_progress("explaining", job.quiet) as on_progress:
        result = explain(out, chunk_size=pairs.chunk_size, on_progress=on_progress, **execution.arguments)

    is_new = not files_before or result.chunks() != files_before
    _say_result(result, is_new=is_new, quiet=job.quiet)
    failed = result.manifest.errors or 0
    if 0 < failed == result.own_rows or (failed and job.strict):
        raise typer.Exit(1)


class _Measured(Exception):
    """Ends a job after the rows that are measured."""


def _estimate(explain: Callable[..., "Job"], execution: ExecutionOptions) -> None:
    """Print the time and the disk space of a job, from the second file of a job with small files."""
    if execution.ray is not None:
        raise BadOption("--estimate measures on this machine: leave --ray out, and divide the time by the workers")

    from huggingface_hub.utils import tqdm

    from nibt.jobs._chunks import Shard
    from nibt.jobs.job import Job

    share = 1 if execution.shard is None else Shard.parse(execution.shard).count
    ends: list[float] = []
    totals: list[int | None] = []

    def watch(progress: Progress) -> None:
        if not progress.done:  # a stage of loading
            return
        ends.append(perf_counter())
        totals.append(progress.total)
        if len(ends) > 1:
            raise _Measured

    with TemporaryDirectory() as folder, interruptible("nothing was written"):
        job = Job(Path(folder) / "job")
        with suppress(_Measured):
            explain(job.folder, chunk_size=_ESTIMATED, on_progress=watch)
        counts = job.tally()
        size = sum(path.stat().st_size for paths in job.chunks().values() for path in paths) / counts["rows"]

    if counts["errors"]:
        complain(f"{counts['errors']} of the {counts['rows']} rows that were measured failed, which takes less time")
    if len(ends) < 2:
        say(f"an estimate needs more than {_ESTIMATED} rows (got {counts['rows']}): run the job")
        return

    total = totals[0]
    seconds = (ends[1] - ends[0]) / (counts["rows"] - _ESTIMATED)
    measured = f"{seconds:.2g} s and {tqdm.format_sizeof(size, 'B')} per row, measured here on {counts['rows']} rows"
    if total is None:
        say(f"{measured}; the number of rows is not known before they are read")
        return

    of_share = -(-total // share)
    what = "all rows" if share == 1 else f"each of {share:,} shards ({of_share:,} rows)"
    time = clock(seconds * of_share)
    # rows need less space in larger files
    say(f"{total:,} rows; {measured}; {what}: about {time} and at most {tqdm.format_sizeof(size * of_share, 'B')}")


def _say_result(job: "Job", is_new: bool, quiet: bool) -> None:
    """Print how many rows a job or a shard has, and its warnings and errors."""
    rows = job.own_rows
    failed = job.manifest.errors or 0
    if not quiet:
        done = "written" if is_new else "are there already"
        say(f"{rows:,} rows {done}, {failed:,} failed{_next_step(job)}")

    for warning in job.manifest.warnings:
        complain(warning)
    if failed:
        complain(f"{failed:,} of {rows:,} rows failed:")
        for error in job.first_errors():
            complain(error)


def _next_step(job: "Job") -> str:
    """Return what to do with a job or a shard that was written."""
    if job.shard is not None:
        place = f"shard {job.shard.number} of {job.shard.count}"
        return f" in {place}; when all are done, the same command without --shard joins them"
    return f"; to draw a row: nibt show {job.folder} ROW" if job.manifest.errors != job.own_rows else ""


@expand_groups
def show(
    folder: Annotated[Path, Argument(metavar="DIR", help="The folder of a job, or of a run of nibt bench.")],
    output: OutputOptions,
    row: Annotated[int | None, Argument(help="The position of a row of a job, from 0.")] = None,
    verify: Annotated[
        bool,
        Option("--verify", help="Check a job: each row is stored once, no part was changed, each result can be read."),
    ] = False,
    base: Annotated[
        str | None,
        Option(
            metavar="METHOD",
            help="The method of a benchmark that stars and win rates compare with, by its name in the tables. Default: "
            "nib, or the first NIB of the plan.",
            show_default=False,
        ),
    ] = None,
    paper: Annotated[
        bool,
        Option(
            "--paper",
            help="Write what a paper needs of a run of nibt bench into its folder: paper.tex with a paragraph on "
            "methods and tables, paper.bib, and figures in PDF files.",
        ),
    ] = False,
) -> None:
    """Draw a row of a job as nibt explain does, or show the report of a run of nibt bench. No model is loaded.

    Without a row, -o gallery.html writes a page with all rows of a job: images with their maps, word scores and notes.

    The report is also written into the folder of the run: report.md, .csv, .tex, and .html with plots. Without a row,
    a finished job gets a README.md, with which its folder can be shared as a data set.
    """
    from nibt.jobs.job import SHARDS, Job

    if folder.is_file():
        raise BadInput(
            f"nibt show takes the folder of a job or of a benchmark (got the file {str(folder)!r}): give its folder"
        )
    if not folder.is_dir():
        raise BadInput(f"there is no folder {str(folder)!r}: give the folder of a job or of a benchmark")

    kind = kind_of(folder)
    if not kind and (folder / SHARDS).is_dir():
        Job.open(folder)  # whose error says how to join them
    if kind == "benchmark":
        _check_benchmark_options(folder, row, verify, output)
    else:
        _check_job_options(folder, row, verify, output, base, paper)

    if paper:
        _write_paper(folder, output, base)
    elif verify:
        _verify(folder, output.quiet)
    elif row is not None:
        _show_row(Job.open(folder), row, output)
    elif output.out:
        _write_gallery(Job.open(folder), output)
    else:
        text, written = _report(folder, kind, output.overwrite, base)
        if not output.quiet:
            say(text)
            say(f"wrote {written}", err=True)


def _check_benchmark_options(folder: Path, row: int | None, verify: bool, output: OutputOptions) -> None:
    """Check that nothing is asked of a run of nibt bench that only a job has."""
    if row is not None or verify or output.out or output.draw:
        raise BadOption(
            f"a row, --verify, --out and --draw are for a job ({folder} is a run of nibt bench): leave them out"
        )


def _check_job_options(
    folder: Path, row: int | None, verify: bool, output: OutputOptions, base: str | None, paper: bool
) -> None:
    """Check that what is asked of a job goes together."""
    if paper:
        raise BadOption(f"--paper is for a run of nibt bench ({folder} is none): leave it out")

    out = output.out or []
    is_gallery = row is None and not verify and len(out) == 1 and out[0].endswith(".html")
    if (out or output.draw) and (row is None or verify) and not is_gallery:
        raise BadOption(
            f"--out and --draw are for a row of a job: give its position, as in nibt show {folder} 0 -o x.png; a page "
            f"of all rows is one file, as in nibt show {folder} -o gallery.html"
        )
    if base is not None:
        raise BadOption(f"--base is for the report of nibt bench (got {base!r} for a job): leave it out")
    if verify and row is not None:
        raise BadOption(f"--verify checks all rows (got the row {row}): leave the row out")


def _verify(folder: Path, quiet: bool) -> None:
    """Check the files of a job; one that is not complete ends the command with an error."""
    from nibt.jobs.job import Job

    job = Job.open(folder)
    problems = job.check()
    if not quiet:
        say("\n".join(problems) or f"{folder} is complete: {job.size_text()}, each stored once")
    if problems:
        raise typer.Exit(1)


def _report(folder: Path, kind: str, overwrite: bool, base: str | None) -> tuple[str, str]:
    """Write the card of a job, or the report of a benchmark; return its text, and what was written."""
    if kind == "job":
        from nibt.jobs.job import FILE, Job, write_card

        return write_card(Job.open(folder), overwrite), f"{folder / FILE}; nibt show {folder} ROW draws a row"

    from nibt.evaluation.bench.report import write_report
    from nibt.folder import MANIFEST

    if not (folder / MANIFEST).exists():
        raise BadInput(f"{str(folder)!r} has no job and no benchmark (no {MANIFEST}): give the folder of one")

    text = write_report(folder, overwrite, base=base)
    return text, ", ".join(str(folder / f"report.{ending}") for ending in ("md", "csv", "tex", "html"))


def _write_paper(folder: Path, output: OutputOptions, base: str | None) -> None:
    """Write what a paper needs of a benchmark."""
    from nibt.evaluation.bench.paper import write_paper

    written = write_paper(folder, output.overwrite, base=base)
    if not output.quiet:
        say(f"wrote {', '.join(map(str, written))}", err=True)


def _write_gallery(job: "Job", output: OutputOptions) -> None:
    """Write the page of all rows of a job."""
    (path,) = output.out or [""]
    with interruptible("no page is written"), show_progress("drawing", output.quiet) as on_progress:
        count = job.save_gallery(path, overwrite=output.overwrite, on_progress=on_progress, **output.drawing)

    if not output.quiet:
        say(f"wrote {path}: {count}")
        if job.manifest.rows is None:
            complain("the job is not finished: the page has the rows that it has so far")


def _show_row(job: "Job", row: int, output: OutputOptions) -> None:
    from nibt.cli.console import show as show_pairs
    from nibt.cli.console_answer import show_answers
    from nibt.generators.results.answer import AnswerExplanation

    explanation = job.explanation(row)
    if isinstance(explanation, AnswerExplanation):
        text = explanation.prompt
        single = ".html"
        show_results = show_answers
    else:
        text = explanation.caption
        single = ".png"
        show_results = partial(show_pairs, look=output.look)

    read_paths = input_paths(job.folder, explanation.source, job.manifest.names)
    files = Output(
        output.out,
        output.quiet,
        output.overwrite,
        "",
        read_paths,
        (single, ".json"),
        drawing=output.drawing,
    )
    targets = files.check([f"{row}-{slug(text)}"], explanation.kind)
    files.write([explanation], targets, show_results)


def kind_of(folder: Path) -> str:
    """Return the kind of a folder, such as ``job``; empty if it has no manifest that can be read."""
    from nibt.folder import MANIFEST
    from nibt.io import load_json

    try:
        data = load_json(folder / MANIFEST)
    except (OSError, ValueError):
        return ""

    return str(data.get("kind", "")) if isinstance(data, dict) else ""


_EXAMPLES = (
    '(echo image,caption; echo "sample:scene,a cat") > pairs.csv',
    "nibt batch pairs.csv -m scenes -o JOB",
)
COMMANDS = (Command(5, batch, examples=_EXAMPLES), Command(6, show))
