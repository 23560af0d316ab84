"""``nibt check``, which shows what nibt reads of a model."""

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import PlacementOptions
from nibt.cli.progress import show_progress
from nibt.cli.terminal import say


@dataclass(frozen=True, kw_only=True)
class CheckInputOptions(OptionGroup, panel="Input"):
    """A model, and a text that it reads."""

    model: Annotated[
        str, Argument(metavar="MODEL", show_default=False, help="A folder, an embedded model, or a name on the hub.")
    ]
    text: Annotated[
        str | None, Option(help="The caption or the prompt whose tokens are shown. Default: an example.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class CheckedModelOptions(PlacementOptions):
    """How the model is loaded."""

    load: Annotated[
        list[str] | None,
        Option("--load", metavar="NAME=VALUE", help="An option of loading, as in nibt explain and nibt answer."),
    ] = None


@expand_groups
def check(inputs: CheckInputOptions, loading: CheckedModelOptions) -> None:
    """Show what nibt reads of a model: its tokens, images, prompts and settings, and whether it can be cut.

    A report of a bug should contain the output.
    """
    from nibt.models._request import GenerationOptions, LoadOptions

    options = loading.placed(loading.load, LoadOptions, GenerationOptions)
    with show_progress(f"loading {inputs.model}", False):
        from nibt.engine.reading import describe, load_any

        lines = describe(load_any(inputs.model, options), inputs.text)
    width = max(map(len, lines))
    say("\n".join(f"{topic:{width}}  {value}" for topic, value in lines.items()))
