"""``nibt check``, which shows what nibt reads of a model, and ``nibt calibrate``, which computes its mean states."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from nibt.cli.command import Command
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import AskingOptions, EvaluatedModelOptions, OverwriteOptions, PlacementOptions
from nibt.cli.output import input_paths
from nibt.cli.terminal import say, show_progress
from nibt.errors import BadOption
from nibt.io import file_path, read_lines


@dataclass(frozen=True, kw_only=True)
class CheckInputOptions(OptionGroup, panel="Input"):
    """A model, and a text that it reads."""

    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            show_default=False,
            help="A folder, an embedded model, a name on the hub, or the address of a server.",
        ),
    ]
    text: Annotated[
        str | None,
        Option(help="The caption or the prompt whose tokens are shown, or that a server answers. Default: an example."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CheckedModelOptions(PlacementOptions):
    """How the model is loaded."""

    load: Annotated[
        list[str] | None,
        Option("--load", metavar="NAME=VALUE", help="An option of loading, as in nibt explain and nibt answer."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CheckedServerOptions(AskingOptions):
    """A model behind a server, and what it is compared with."""

    name: Annotated[
        str | None, Option("--model", "-m", metavar="NAME", help="The name of the model on the server. Default: none.")
    ] = None
    against: Annotated[
        str | None,
        Option(
            metavar="FOLDER",
            help="The model that the server should have: a folder, or a name on the hub. Log-probabilities of the same "
            "answers are compared. Default: none.",
        ),
    ] = None
    image: Annotated[
        list[str] | None, Option(help="An image that the server answers about; repeatable. Default: samples.")
    ] = None


@expand_groups
def check(inputs: CheckInputOptions, loading: CheckedModelOptions, server: CheckedServerOptions) -> None:
    """Show how nibt reads a model: its tokens, images, prompts and settings, and whether it can be cut at its layers.

    Of a model behind a server (an address, with -m NAME), it shows what the server offers, which is tried by requests;
    with --against FOLDER, also whether the server has the model of a folder. The exit code is 1 if answers cannot be
    explained, or if the server has another model.

    Include the output in bug reports.
    """
    from nibt.models._names import is_address
    from nibt.models._request import GenerationOptions, LoadOptions

    if is_address(inputs.model):
        _check_server(inputs, loading, server)
        return
    if server != CheckedServerOptions():
        raise BadOption(
            "-m, --against, --image, --key-env, --requests and --tokens are for a model behind a server, whose address "
            f"begins with http:// or https:// (got {inputs.model!r})"
        )

    options = loading.placed(loading.load, LoadOptions, GenerationOptions)
    with show_progress(f"loading {inputs.model}", False):
        from nibt.engine.reading import describe, load_any

        lines = describe(load_any(inputs.model, options), inputs.text)

    _say_lines(lines)


def _check_server(inputs: CheckInputOptions, loading: CheckedModelOptions, server: CheckedServerOptions) -> None:
    """Show what a server offers, and whether it has the model of a folder."""
    options = server.asking(inputs.model, server.name, loading, loading.load)
    with show_progress("asking the server", False):
        from nibt.bridges.server_check import check_server
        from nibt.generators.loading import load_generator

        generator = load_generator(inputs.model, **options)
        reading = check_server(generator, inputs.text, server.image or (), server.against)

    say(str(reading))
    if not reading.passes:
        raise typer.Exit(1)


def _say_lines(lines: Mapping[str, str]) -> None:
    """Print a line per topic."""
    width = max(map(len, lines))
    say("\n".join(f"{topic:{width}}  {value}" for topic, value in lines.items()))


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions(OptionGroup, panel="Data"):
    """The images and captions over which states are averaged."""

    images: Annotated[list[str] | None, Argument(help="Images; more images give better means.")] = None
    captions: Annotated[Path | None, Option(help="A file with a caption per line.")] = None
    layers: Annotated[str | None, Option(help="The layers, such as 2,3,4. Default: all.")] = None


@dataclass(frozen=True, kw_only=True)
class CalibrationOutput(OverwriteOptions):
    """The file of mean states."""

    out: Annotated[
        str | None, Option("--out", "-o", metavar="FILE", help="The file to write (safetensors). Required.")
    ] = None


@expand_groups
def calibrate(model: EvaluatedModelOptions, data: CalibrationOptions, output: CalibrationOutput) -> None:
    """Compute the mean states of a model, for nibt explain ... --method "nib baseline=mean:FILE"."""
    if output.out is None:
        raise BadOption("the mean states need a file: give --out FILE")

    from nibt.engine.calibrate import calibrate as run
    from nibt.results.outputs import check_targets

    check_targets(
        [file_path("--out", output.out)], input_paths(model.model, data.images, data.captions), output.overwrite
    )
    images = data.images or []
    captions = read_lines(data.captions) if data.captions else []
    layers = None if data.layers is None else [_layer_number(text) for text in data.layers.split(",")]
    loaded = model.loaded(output.quiet)
    with show_progress("calibrating", output.quiet) as on_progress:
        run(loaded, images, captions, output.out, layers=layers, overwrite=output.overwrite, on_progress=on_progress)
    if output.quiet:
        return

    say(f"wrote {output.out}: the mean over {len(images)} images and {len(captions)} captions")
    if not (images and captions):
        side, remedy = ("text", "captions: --captions FILE") if images else ("image", "images")
        say(f"the {side} side keeps its default baseline; to calibrate it too, give {remedy}")


def _layer_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise BadOption(f"layers must be whole numbers, such as 2,3,4 (got {text!r})") from error


COMMANDS = (Command(4, check), Command(11, calibrate))
