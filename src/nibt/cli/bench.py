"""``nibt bench``: a plan is measured into a folder; a run that was stopped goes on."""

from pathlib import Path
from typing import Annotated

import typer

from nibt.cli import options as option
from nibt.cli.options import assignments
from nibt.errors import BadOption


def bench(
    plan: Annotated[str, typer.Argument(help="A plan that ships with nibt (nibt list plans), or a TOML file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="RUN",
            rich_help_panel=option.OUTPUT,
            help="The folder of the run; a run that is there goes on.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="Where a data set of the plan is; repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave a data set of the plan out; repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A model instead of the plan's; repeatable.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where models run: cpu, cuda, cuda:1, mps.")] = None,
    count: Annotated[int | None, typer.Option(help="Only the first so many pairs of each data set.")] = None,
    strict: option.Strict = False,
    quiet: option.Quiet = False,
) -> None:
    """Measure explanation methods: models x methods x data sets x metrics, as a plan says. Then: nibt report RUN.

    Killed at any moment it goes on, by the same command, where it was.
    """
    if out is None:
        raise BadOption("say where the run goes: --out RUN")
    from nibt.cli.progress import interruptible, shown
    from nibt.evaluation.bench.plan import Plan
    from nibt.evaluation.bench.run import Run
    from nibt.evaluation.bench.validation import changed

    folders = assignments(data or [], option="--data", plain=True)
    chosen = changed(Plan.read(plan), folders, without or (), model or (), device, count)
    with shown("reading the data", quiet):
        run, sets = Run.begin(chosen, out)
    left, chunks = run.left(), sum(1 for _ in run.chunks())
    if not quiet and 0 < len(left) < chunks:
        typer.echo(f"goes on: {chunks - len(left)} of {chunks} chunks are there", err=True)
    pairs = sum(chunk.stop - chunk.start for chunk in left)
    with (
        interruptible(
            lambda: f"{chunks - len(run.left())} of {chunks} chunks are kept in {out}; the same command goes on"
        ),
        shown("measuring", quiet, pairs, window=3600.0) as on_progress,
    ):
        run.go(sets, on_progress)
    failed, rows = run.failures()
    if not quiet:
        typer.echo(f"{chunks} chunks are in {out}; now: nibt report {out}")
    if failed:
        typer.echo(f"nibt: {failed:,} of {rows:,} measurements failed; the report lists why", err=True)
    if failed == rows or (failed and strict):
        raise typer.Exit(1)
