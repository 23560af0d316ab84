"""``nibt show``, which draws a row of a job."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from nibt.cli.groups import expand_groups
from nibt.cli.options import OutputOptions
from nibt.cli.output import Output, input_paths, stem


@expand_groups
def show(
    folder: Annotated[Path, Argument(metavar="DIR", help="The folder of a job.")],
    row: Annotated[int, Argument(help="The position of the row, from 0.")],
    output: OutputOptions,
) -> None:
    """Draw a row of a job as nibt explain does: an image or a page, and a JSON file. No model is loaded."""
    from nibt.cli.console import show as print_answers
    from nibt.jobs.job import Job
    from nibt.report.image.explanation import draw

    look, job = output.look, Job.open(folder)
    explanation = job.explanation(row)
    read_paths = input_paths(folder, explanation.source, job.manifest.names)
    files = Output(output.out, output.json, output.quiet, output.overwrite, inputs=read_paths)
    names = files.check([f"{row}-{stem(explanation.source)}"], [explanation.caption])
    files.write(
        [explanation],
        names,
        lambda answer: draw(answer, **output.drawing),
        lambda answers: print_answers(answers, look, output.verbose),
        drawing=output.drawing,
    )
