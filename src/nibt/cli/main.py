"""The command line as a whole: its commands, and what a failure looks like.

Exit codes: 0 done, 1 could not do it (an unreadable picture, no such model, a full disk), 2 bad usage (an unknown
name, an option out of range). Nobody sees a traceback for an error that is theirs to mend.
"""

import os
import sys
from typing import Annotated

import typer

from nibt import __version__
from nibt.cli.audit import audit
from nibt.cli.batch import batch
from nibt.cli.bench import bench
from nibt.cli.calibrate import calibrate
from nibt.cli.explain import explain
from nibt.cli.interact import interact
from nibt.cli.listing import list_parts
from nibt.cli.report import report
from nibt.cli.roar import roar
from nibt.cli.serve import serve
from nibt.cli.show import show
from nibt.errors import BadOption, NibtError, UnknownName

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Explain which parts of an image, and which words of a caption, make a CLIP-like model think that they "
    "belong together.",
)
app.command()(explain)
app.command()(interact)
app.command()(batch)
app.command()(show)
app.command()(calibrate)
app.command()(audit)
app.command()(bench)
app.command()(report)
app.command()(roar)
app.command()(serve)
app.command("list")(list_parts)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """Show the version."""
    if show:
        typer.echo(f"nibt {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    _quiet()
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int | str | None:
    try:
        app(arguments, prog_name="nibt")
    except SystemExit as done:  # usage errors, --help and Ctrl-C were told by typer itself
        return 1 if done.code == 130 else done.code
    except NibtError as error:
        _tell(str(error))
        return 2 if isinstance(error, UnknownName | BadOption) else 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone: nobody to tell
        return 1
    except OSError as error:
        _tell(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return 1
    return 0


def _quiet() -> None:
    """Progress bars and advice of the libraries below would drown ours; the environment may ask for them."""
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _tell(message: str) -> None:
    print(f"nibt: {message}", file=sys.stderr)
