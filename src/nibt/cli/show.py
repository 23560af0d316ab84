"""``nibt show``: one row of a job is drawn again."""

from pathlib import Path
from typing import Annotated

import typer

from nibt.cli import options as option
from nibt.cli.output import Output, input_paths, stem


def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a job.")],
    row: Annotated[int, typer.Argument(help="The number of the row, from 0.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            rich_help_panel=option.OUTPUT,
            help="The image to write, or the page as x.html. The JSON file lies beside it.",
        ),
    ] = None,
    json: option.Json = None,
    positive_only: option.Positive = False,
    overwrite: option.Overwrite = False,
    verbose: option.Verbose = False,
    quiet: option.Quiet = False,
) -> None:
    """Draw one row of a job as nibt explain does: an image or a page, and a JSON file. No model is loaded."""
    from nibt.cli.console import show as tell
    from nibt.jobs.job import Job
    from nibt.report.image.explanation import draw

    job = Job.open(folder)
    answer = job.explanation(row)
    inputs = input_paths(folder, answer.source, job.manifest.pairs.names)
    output = Output(out, json, quiet, overwrite, inputs=inputs)
    names = output.check([f"{row}-{stem(answer.source)}"], [answer.caption])
    output.write(
        [answer],
        names,
        lambda found: draw(found, positive_only),
        lambda found: tell(found, positive_only, verbose),
        positive_only=positive_only,
    )
