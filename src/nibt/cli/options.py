"""Options that several commands share, and how the text of one becomes a value."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nibt.errors import BadInput, BadOption

Device = Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(help="float32, float16 or bfloat16.")]
Fit = Annotated[
    str | None, typer.Option(help="'whole' shows the model the whole picture, where it takes any size; 'model' crops.")
]
ImageSize = Annotated[int | None, typer.Option(help="Side of the pictures that the model is given, in pixels.")]
BatchSize = Annotated[int, typer.Option(help="How many pairs go through the model together.")]

THE_PAPERS = "openai/clip-vit-base-patch32"


def assignments(pairs: list[str], option: str = "-O", plain: bool = False) -> dict[str, str]:
    """``-O name=value`` options as a mapping; a name is one of Python's unless it is ``plain``.

    >>> assignments(["beta=0.1"])
    {'beta': '0.1'}

    """
    for pair in pairs:
        if "=" not in pair:
            raise BadOption(f"{option} takes name=value (got {pair!r})")
    parts = ((name.strip(), value) for name, _, value in (pair.partition("=") for pair in pairs))
    return {name if plain else name.replace("-", "_"): value for name, value in parts}


def given(**options: Any) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{str(path)!r} cannot be read as lines of text ({error})") from error
