"""``nibt report``, which writes the report of a benchmark."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from nibt.cli.groups import expand_groups
from nibt.cli.options import OverwriteOptions
from nibt.cli.terminal import say


@expand_groups
def report(
    run: Annotated[Path, Argument(help="The folder of a run, finished or not.")], output: OverwriteOptions
) -> None:
    """Print the tables of a run, and write them into its folder: report.md, .csv, .tex, and .html with plots."""
    from nibt.evaluation.bench.report import write_report
    from nibt.evaluation.bench.run import Benchmark

    text = write_report(Benchmark.open(run), output.overwrite)
    if not output.quiet:
        say(text)
        say("wrote " + ", ".join(str(run / f"report.{kind}") for kind in ("md", "csv", "tex", "html")), err=True)
