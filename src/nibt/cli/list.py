"""``nibt list``: the names of the parts, from the registry; no model library is opened for it. For what methods
and data sets say of themselves their files are opened, and torch with them.
"""

from enum import StrEnum
from typing import Annotated

import typer

from nibt.cli.options import THE_PAPERS

Kind = StrEnum("Kind", ["methods", "models", "targets", "metrics", "datasets", "samples", "plans"])


def list_parts(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    names: Annotated[bool, typer.Option("--names", help="Only the names, one a line.")] = False,
) -> None:
    """List the methods, models, targets, metrics, data sets, sample images or plans of benchmarks."""
    if kind == Kind.methods and not names:
        from nibt.cli.console import methods

        methods()
    elif kind == Kind.models and not names:
        typer.echo(_models())
    elif kind == Kind.datasets and not names:
        typer.echo(_datasets())
    elif kind == Kind.plans:
        from nibt.evaluation.bench.plan import plans

        wide = max(map(len, plans()))
        typer.echo("\n".join(name if names else f"{name:{wide}}   {about}" for name, about in plans().items()))
    elif kind == Kind.samples:
        from nibt.data.images import SAMPLE, samples

        typer.echo("\n".join(SAMPLE + name for name in samples()))
    else:
        from nibt.registry import available

        typer.echo("\n".join(available(str(kind))) or f"this version has no {kind}")


def _datasets() -> str:
    from nibt.registry import available, find

    names = available("datasets")
    wide = max(map(len, names))
    return "\n".join(f"{name:{wide}}   {getattr(find('datasets', name), 'about', '')}".rstrip() for name in names)


def _models() -> str:
    from nibt.models._loading import embedded
    from nibt.registry import available

    return f"""embedded   {", ".join(embedded()) or "none"}
families   {", ".join(available("models"))}
others     {THE_PAPERS}   a repository on the Hugging Face hub (this is the paper's model)
           ./my-model   a folder with a saved Hugging Face, PEFT or OpenCLIP model
           open_clip:ViT-B-32/laion2b_s34b_b79k   an OpenCLIP architecture and the tag of its weights"""
