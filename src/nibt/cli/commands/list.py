"""``nibt list``, which lists plugins, samples and plans. It imports no model library."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from nibt.cli.command import Command
from nibt.cli.options import THE_PAPERS
from nibt.cli.terminal import say
from nibt.errors import BadOption, check_names
from nibt.registry import KINDS, available, documentation, find, section, summary

Kind = StrEnum("Kind", [*KINDS, "samples", "plans"])


def list_parts(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    name: Annotated[
        str | None,
        typer.Argument(help="The name of one of them: print its description, its options, its cost and its source."),
    ] = None,
) -> None:
    """List methods, models, targets, metrics, data sets, file formats, sample images or plans, or describe one."""
    if name is not None:
        say(_page(kind, name))
    elif kind == "methods":
        from nibt.cli.console import methods

        methods()
    elif kind == "models":
        from nibt.models._embedded import embedded, embedded_generators

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
        say("\n".join(f"{name:{width}}   {about}".rstrip() for name, about in lines.items()))


_FACTS = {"Forward passes of each view": "cost", "Source": "paper"}


def _page(kind: Kind, name: str) -> str:
    """Return the description of a plugin with its options, and of a method also its variants, cost and source."""
    from nibt.models._embedded import embedded, embedded_generators

    if kind == "models" and name in (*embedded(), *embedded_generators()):
        raise BadOption(f"{name} is a model that ships with nibt, and no family of models: see nibt check {name}")
    if kind == "plans":
        from nibt.evaluation.bench.plan import plan_text

        return plan_text(name)
    if kind not in KINDS:
        raise BadOption(f"{kind} have one line each (got {name!r}): see nibt list {kind}")

    name, colon, variant = name.partition(":")  # as in nib:paper
    about: str = documentation(kind, name)
    plugin: Any = find(kind, name)
    variants = getattr(plugin, "variants", {})
    if colon and not variants:
        raise BadOption(f"{kind} have no variants (got {name}:{variant}): write nibt list {kind} {name}")

    if colon:
        check_names("variants", [variant], variants)

    # without formulas, which a terminal cannot show, and options, which follow
    lines = [re.sub(r"\$\$[^$]*\$\$\n\n|\n\n(Args|Attributes):(\n    .*)*", "", about)]
    options = _option_lines(plugin, variants.get(variant or "default", {}))
    if options:
        sided = ", of both sides, or with image_ or text_ before the name of one" if kind == "methods" else ""
        lines += ["", f"Options{sided}:", *options]

    facts = {"Variants": ", ".join(variants), **{title: getattr(plugin, name, "") for title, name in _FACTS.items()}}
    lines += ["", *(f"{fact}: {text}" for fact, text in facts.items() if text)]
    return _plain("\n".join(lines)).rstrip()


_SYMBOLS = {
    "beta": "β",
    "cdot": "·",
    "emptyset": "∅",
    "in": "∈",
    "lambda": "λ",
    "omega": "ω",
    "sim": "~",
    "sum": "∑",
    "text": "",
}
"""The symbols of commands of LaTeX."""


def _plain(text: str) -> str:
    r"""Return a description without the marks of LaTeX, of Markdown's links, and links in parentheses.

    >>> _plain(r"where $\lambda_t \in \text{units}$ of the [glossary](glossary.md) ([details](theory.md))")
    'where λ_t ∈ units of the glossary'
    """
    without_links = re.sub(r" \(\[[^]]+\]\([^)]+\)\)", "", text)
    without_links = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", without_links)
    return re.sub(r"\$([^$]+)\$", lambda formula: _plain_formula(formula[1]), without_links)


def _plain_formula(latex: str) -> str:
    """Return a short formula of LaTeX as text."""
    with_symbols = re.sub(r"\\([a-z]+)", lambda command: _SYMBOLS.get(command[1], command[1]), latex)
    return re.sub("[{}]", "", with_symbols)


def _option_lines(plugin: type, of_variant: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Return a line for each option of a plugin, with its default in a variant, which may differ between sides."""
    texts = section(plugin, "Attributes") | section(plugin, "Args")
    if not is_dataclass(plugin):
        return []

    lines = []
    for field in fields(plugin):
        if not field.init:
            continue

        usual = field.default if field.default_factory is MISSING else field.default_factory()
        of_image, of_text = (of_variant.get(side, {}).get(field.name, usual) for side in ("image", "text"))
        value = f"default {of_image}"
        if MISSING in (of_image, of_text):
            value = "required"
        elif of_image != of_text:
            value = f"default {of_image} (image), {of_text} (text)"

        lines.append(f"    {field.name}, {value}: {texts.get(field.name, '')}".removesuffix(": "))

    return lines


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


COMMANDS = (Command(13, list_parts, "list", interrupted=""),)
