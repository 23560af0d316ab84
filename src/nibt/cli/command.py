"""A subcommand: its file lists it in ``COMMANDS``, and the command line finds the file."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        place: Where it stands in the help.
        run: Its function.
        name: Its name; empty for that of the function.
        examples: The command lines below its help.
        interrupted: What is said when it is interrupted; empty if it handles that itself.
    """

    place: int
    run: Callable[..., None]
    name: str = ""
    examples: tuple[str, ...] = ()
    interrupted: str = "no partial file is left"
