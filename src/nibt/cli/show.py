"""``nibt show``, which draws a row of a job, checks a job, or shows the report of a benchmark."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from nibt.cli.groups import expand_groups
from nibt.cli.options import OutputOptions
from nibt.cli.output import Output, input_paths, slug, stem
from nibt.cli.terminal import say
from nibt.errors import BadInput

if TYPE_CHECKING:
    from nibt.jobs.job import Job


@expand_groups
def show(
    folder: Annotated[Path, Argument(metavar="DIR", help="The folder of a job, or of a run of nibt bench.")],
    output: OutputOptions,
    row: Annotated[int | None, Argument(help="The position of a row of a job, from 0.")] = None,
    verify: Annotated[
        bool, Option("--verify", help="Check that a job is complete: each row is stored once, no file was changed.")
    ] = False,
) -> None:
    """Draw a row of a job as nibt explain does, or show the report of a run of nibt bench. No model is loaded.

    The report is also written into the folder of the run: report.md, .csv, .tex, and .html with plots. Without a row,
    a finished job gets a README.md, with which its folder can be shared as a data set.
    """
    if not folder.is_dir():
        raise BadInput(f"there is no folder {str(folder)!r}: give the folder of a job or of a benchmark")
    from nibt.folder import kind_of
    from nibt.jobs.job import Job

    if verify:
        _verify(Job.open(folder), output.quiet)
    elif row is not None:
        _show_row(Job.open(folder), row, output)
    else:
        if kind_of(folder) == "job":
            from nibt.jobs.card import FILE, write_card

            text = write_card(Job.open(folder), output.overwrite)
            written = f"{folder / FILE}; nibt show {folder} ROW draws a row"
        else:
            from nibt.evaluation.bench.report import write_report
            from nibt.evaluation.bench.run import Benchmark

            text = write_report(Benchmark.open(folder), output.overwrite)
            written = ", ".join(str(folder / f"report.{ending}") for ending in ("md", "csv", "tex", "html"))
        if not output.quiet:
            say(text)
            say(f"wrote {written}", err=True)


def _show_row(job: "Job", row: int, output: OutputOptions) -> None:
    from nibt.cli.console import show as show_pairs
    from nibt.cli.console import show_answers
    from nibt.results.answer import AnswerExplanation

    drawing, explanation = output.drawing, job.explanation(row)
    text, single, show_results = (
        explanation.caption,
        ".png",
        partial(show_pairs, look=output.look),
    )
    if isinstance(explanation, AnswerExplanation):
        text, single, show_results = explanation.prompt, ".html", show_answers
    read_paths = input_paths(job.folder, explanation.source, job.manifest.names)
    files = Output(output.out, output.quiet, output.overwrite, inputs=read_paths, default=(single, ".json"))
    targets = files.check([f"{slug(f'{row}-{stem(explanation.source)}')}-{slug(text)}"], explanation.kind)
    files.write([explanation], targets, show_results, drawing)


def _verify(job: "Job", quiet: bool) -> None:
    problems = job.check()
    if not quiet:
        say("\n".join(problems) or f"{job.folder} is complete: {job.manifest.rows:,} rows, each stored once")
    if problems:
        raise typer.Exit(1)
