"""``nibt cite``, which prints what to cite. It loads no model."""

from typing import Annotated

from typer import Argument

from nibt.cli.command import Command
from nibt.cli.terminal import say


def cite(
    what: Annotated[
        list[str] | None,
        Argument(
            metavar="[WHAT]...",
            help="Names of methods and metrics; JSON files of results; folders of nibt bench and nibt batch.",
        ),
    ] = None,
) -> None:
    """Print what to cite, in BibTeX: nibt, and the publications of methods and metrics. Default: the method nib."""
    from nibt.evaluation.citations import cite as cited

    say(cited(*(what or ())).rstrip("\n"))


_EXAMPLES = ("nibt cite", "nibt cite gae deletion > references.bib")

COMMANDS = (Command(14, cite, examples=_EXAMPLES, interrupted=""),)
