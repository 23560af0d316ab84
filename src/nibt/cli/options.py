"""Options that several commands share, and how the text of one becomes a value."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nibt.errors import BadInput, BadOption

MODEL, METHOD, OUTPUT, DATA = "The model", "The method", "What is written", "The data"
"""The headings of ``--help`` under which the options of all commands stand."""

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", rich_help_panel=MODEL, help="A model; see nibt list models. Without it: lite."),
]
Device = Annotated[str, typer.Option(rich_help_panel=MODEL, help="Where the model runs: cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(rich_help_panel=MODEL, help="float32, float16 or bfloat16.")]
Resize = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=MODEL, help="'whole' shows the model the whole image, where it takes any size; 'model' crops."
    ),
]
ImageSize = Annotated[
    int | None, typer.Option(rich_help_panel=MODEL, help="Side of the images that the model is given, in pixels.")
]
BatchSize = Annotated[int, typer.Option(rich_help_panel=MODEL, help="How many pairs go through the model together.")]

Method = Annotated[str, typer.Option(rich_help_panel=METHOD, help="See nibt list methods.")]
Variant = Annotated[str, typer.Option(rich_help_panel=METHOD, help="'default', or 'paper' for the published setting.")]
Target = Annotated[
    str, typer.Option(rich_help_panel=METHOD, help="The number that is explained; see nibt list targets.")
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=METHOD, help="A caption to contrast with, on the image side or of two captions; repeatable."
    ),
]
AgainstImage = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=METHOD, help="An image to contrast with, on the text side or of two images; repeatable."
    ),
]
Template = Annotated[
    list[str] | None,
    typer.Option(rich_help_panel=METHOD, help="A wording with {} for the caption, for ensemble; repeatable."),
]
Layer = Annotated[
    str | None, typer.Option(rich_help_panel=METHOD, help="9, or 2,3,4 (averaged), or auto; for both sides.")
]
ImageLayer = Annotated[str | None, typer.Option(rich_help_panel=METHOD, help="For the image side.")]
TextLayer = Annotated[str | None, typer.Option(rich_help_panel=METHOD, help="For the text side.")]
Baseline = Annotated[
    str | None, typer.Option(rich_help_panel=METHOD, help="Where to narrow to: zero, blank, mean, mean:FILE.")
]
Steps = Annotated[int | None, typer.Option(rich_help_panel=METHOD, help="How many nodes on the path.")]
Tolerance = Annotated[
    float | None,
    typer.Option(rich_help_panel=METHOD, help="Double the nodes until the gap is below this share of the change."),
]
Seed = Annotated[int | None, typer.Option(rich_help_panel=METHOD, help="For methods that draw at random.")]
Other = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", rich_help_panel=METHOD, help="Another option of the method; repeatable."
    ),
]

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "-D", metavar="NAME=VALUE", rich_help_panel=DATA, help="An option of the data set, as split=val; repeatable."
    ),
]

Json = Annotated[
    str | None, typer.Option(rich_help_panel=OUTPUT, help="Where the JSON goes; - writes it alone to standard output.")
]
Positive = Annotated[
    bool, typer.Option("--positive-only", rich_help_panel=OUTPUT, help="Show only what speaks for the pair.")
]
Strict = Annotated[
    bool,
    typer.Option("--strict", rich_help_panel=OUTPUT, help="Exit with 1 if anything failed, even if the rest was done."),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", rich_help_panel=OUTPUT, help="Replace files that nibt did not write; never an input."),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        rich_help_panel=OUTPUT,
        help="Also print the path (layers, steps, baseline) and the versions.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Print nothing.")]

NOT_OF_METHODS = frozenset(
    {
        "address",
        "against",
        "against_images",
        "batch_size",
        "caption",
        "captions",
        "send_images",
        "chunk_size",
        "cpus",
        "first",
        "gpus",
        "image",
        "images",
        "key",
        "labels",
        "loading",
        "memory",
        "method",
        "model",
        "on",
        "on_progress",
        "out",
        "pairs",
        "sample",
        "second",
        "seed",
        "split",
        "target",
        "templates",
        "variant",
        "words",
        "workers",
    }
)
"""Arguments of the Python functions that are no options of a method."""
THE_PAPERS = "openai/clip-vit-base-patch32"


def assignments(pairs: list[str], option: str = "--set", plain: bool = False) -> dict[str, str]:
    """``--set name=value`` options as a mapping; a name is one of Python's unless it is ``plain``.

    >>> assignments(["beta=0.1"])
    {'beta': '0.1'}

    """
    for pair in pairs:
        if "=" not in pair:
            raise BadOption(f"{option} takes name=value (got {pair!r})")
    values: dict[str, str] = {}
    for name, _, value in (pair.partition("=") for pair in pairs):
        key = name.strip() if plain else name.strip().replace("-", "_")
        if key in values:
            raise BadOption(f"{option} gives {key} twice ({values[key]!r} and {value!r}): give it once")
        values[key] = value
    return values


def method_options(pairs: list[str] | None, chosen: dict[str, Any]) -> dict[str, Any]:
    """The options of a method: those with a flag of their own that were ``chosen``, and those by ``--set name=value``.

    Raises:
        BadOption: a name is no method's, or is given in both ways.

    """
    others = assignments(pairs or [])
    for name in others:
        if name in NOT_OF_METHODS:
            raise BadOption(f"--set is for options of the method, and {name} is none: look for a flag in --help")
        if name in chosen:
            raise BadOption(f"{name} is given twice, as a flag and by --set: give it once")
    return chosen | others


def given(**options: Any) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{str(path)!r} cannot be read as lines of text ({error})") from error
