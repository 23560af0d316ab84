"""The command line, with its subcommands and exit codes.

Exit codes: 0 for success; 1 for a failure (an image that cannot be read, a missing model, a full disk, a job in which
all rows failed); 2 for bad usage (an unknown name, an invalid option, an output that would replace a file of the user,
a folder with the results of another request); 130 after Ctrl-C, and 143 after SIGTERM. Errors of nibt are printed
without a traceback, in one line, or in one for each difference of two requests.
"""

import ctypes
import os
import sys
from itertools import takewhile
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from nibt import __version__
from nibt.cli.terminal import complain, interruptible, safe_streams, say
from nibt.errors import BadOption, NibtError, OtherRequest, UnknownName, WouldOverwrite, missing_part
from nibt.io import one_line
from nibt.registry import modules

_USAGE = (UnknownName, BadOption, WouldOverwrite, OtherRequest)  # errors that another command line would avoid

# the parameters of mallopt in glibc's malloc.h
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Explain which parts of an image, and which words of a caption, make an image-text model match them.",
)


class _StrictCommand(TyperCommand):
    """A command that rejects repeated options, unless they are repeatable, and empty ones, so that no value is lost."""

    # typer has a click of its own in later versions, so the class of the context depends on the version
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, and reject options that occur twice before ``--``, and empty texts."""
        typed = [word.partition("=")[0] for word in takewhile("--".__ne__, args) if word.startswith("--")]
        allowed = {name for option in self.params for name in (*option.opts, *option.secondary_opts, "--help")}
        unknown = next((word for word in typed if word not in allowed), None)

        # options of a method are arguments in Python, so users try --steps; typer would only say that it is unknown
        if unknown is not None and any(option.name == "method" for option in self.params):
            raise BadOption(
                f"there is no option {one_line(unknown)}: files are given by -o x.json, options of a method in its "
                "text (--method 'nib:paper steps=6'), others by --load and --draw; see --help"
            )

        texts, _, order = self.make_parser(ctx).parse_args(list(args))  # order has an option for each time it is given
        for option in self.params:
            times = order.count(option)
            if isinstance(option, TyperOption) and not option.multiple and not option.is_flag and times > 1:
                raise BadOption(f"{option.opts[0]} takes one value (got {times}): give it once")

            values = texts.get(str(option.name))
            is_text = option.name in ("inputs", "prompt")  # texts of users, which have messages of their own
            if not is_text and "" in (values if isinstance(values, list | tuple) else [values]):
                raise BadOption(f"{option.opts[-1]} must not be empty (got '')")

        return super().parse_args(ctx, args)


_COMMANDS = sorted(
    (command for file in modules("commands") for command in file.COMMANDS), key=lambda command: command.place
)
_EXAMPLES = {command.run: command.examples for command in _COMMANDS if command.examples}
for _command in _COMMANDS:
    _epilog = "\n\n".join(["Examples:", *_command.examples]) if _command.examples else None
    _run_command = interruptible(_command.interrupted)(_command.run) if _command.interrupted else _command.run
    app.command(_command.name or None, cls=_StrictCommand, epilog=_epilog)(_run_command)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """Show the version."""
    if show:
        say(f"nibt {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command, and exit with its exit code."""
    _quiet_libraries()
    _keep_freed_memory()
    safe_streams()
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int | str | None:
    try:
        app(arguments, prog_name="nibt")
    except SystemExit as done:  # typer has already printed usage errors and --help
        return done.code
    except NibtError as error:
        say(f"nibt: {error}", err=True)  # of one line, or with one for each difference of two requests
        return 2 if isinstance(error, _USAGE) else 1
    except ModuleNotFoundError as error:
        lacks = missing_part(error)
        if lacks is None:
            raise
        complain(str(lacks))
        return 1
    except BrokenPipeError:
        # the process that reads the output has ended, as head does; at exit, Python would complain that it cannot flush
        sys.stderr.close()
        return 1
    except OSError as error:
        cause = error.strerror or error
        if error.filename:
            complain(f"{error.filename} cannot be read or written ({cause}): check the path, its rights and the disk")
        else:
            complain(f"the output cannot be printed ({cause}): send it to another file or terminal")
        return 1
    return 0


def _quiet_libraries() -> None:
    """Turn off progress bars and advisory warnings of other libraries, unless the environment sets them."""
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    imported = sys.modules.get("transformers.utils.logging")  # it has already read the environment
    if imported is not None:
        imported.disable_progress_bar()


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of large tensors that were freed for the next ones, unless the environment sets this.

    By default, it gives memory above 32 MB back to the system, which then clears it for each tensor anew. For images of
    700 pixels, this took a third of the time of a forward pass.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # which other C libraries lack
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
