"""``nibt list``, which lists plugins, samples and plans. It imports no model library."""

from enum import StrEnum
from typing import Annotated

import typer

from nibt.cli.options import THE_PAPERS
from nibt.cli.terminal import say
from nibt.registry import KINDS, available, find, summary

Kind = StrEnum("Kind", [*KINDS, "samples", "plans"])


def list_parts(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    names: Annotated[bool, typer.Option("--names", help="Print only the names, one per line.")] = False,
) -> None:
    """List methods, models, targets, metrics, data sets, file formats, sample images or plans."""
    if kind == "methods" and not names:
        from nibt.cli.console import methods

        methods()
    elif kind == "models" and not names:
        from nibt.models._loading import embedded, embedded_generators

        say(
            f"""embedded   {", ".join(embedded()) or "none"}
generators {", ".join(embedded_generators()) or "none"}, for nibt answer
families   {", ".join(available("models"))}
others     {THE_PAPERS}   a model on the Hugging Face hub (this is the paper's)
           org/name@revision, org/name:folder, or the address of its page
           ./my-model   a folder with a saved Hugging Face, PEFT or OpenCLIP model
           open_clip:ViT-B-32/laion2b_s34b_b79k   an OpenCLIP architecture and the tag of its weights"""
        )
    else:
        lines = _lines(kind)
        width = max(map(len, lines), default=0)
        say("\n".join(name if names else f"{name:{width}}   {about}".rstrip() for name, about in lines.items()))


def _lines(kind: Kind) -> dict[str, str]:
    """Return the names with a description of each in one line."""
    if kind == "plans":
        from nibt.evaluation.bench.plan import plans

        return plans()
    if kind == "samples":
        from nibt.data.images import SAMPLE, sample_captions, samples

        captions = sample_captions()
        return {SAMPLE + name: captions.get(name, "") for name in samples()}
    if kind == "formats":
        classes = {name: find("formats", name) for name in available("formats")}
        return {
            ", ".join(kind_of.endings[:3]) + (", ..." if len(kind_of.endings) > 3 else ""): summary("formats", name)
            for name, kind_of in classes.items()
        }
    return {name: summary(str(kind), name) for name in available(str(kind))}
