"""``nibt report``: the tables of a run."""

from pathlib import Path
from typing import Annotated

import typer

from nibt.cli import options as option


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run, whole or not.")],
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Print the tables of a run, and write them into its folder: report.md, .csv, .tex, and .html with plots."""
    from nibt.evaluation.bench.report import write_report
    from nibt.evaluation.bench.run import Run

    text = write_report(Run.open(run), overwrite)
    if not quiet:
        typer.echo(text)
        typer.echo("wrote " + ", ".join(str(run / f"report.{kind}") for kind in ("md", "csv", "tex", "html")), err=True)
