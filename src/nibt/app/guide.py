"""The help page of ``nibt serve``: how a map is read, and what each method computes, from the docstrings of methods."""

import re
from collections.abc import Iterator
from importlib.resources import files

from latex2mathml.converter import convert
from markupsafe import Markup

from nibt.app.methods import CATEGORIES, by_category
from nibt.io import read_text
from nibt.registry import documentation, find
from nibt.report.html.document import document, template


def help_page() -> str:
    """Return the help page as an HTML document that loads nothing."""
    categories = [
        (CATEGORIES[category], [find("methods", name) for name in names]) for category, names in by_category().items()
    ]
    body = template("guide.html", "nibt.app").render(categories=categories, paragraphs=_paragraphs, formula=_formula)
    return document("nibt: how to read a map", body, read_text(files("nibt.app") / "guide.css"))


def _formula(text: str, display: str = "inline") -> Markup:
    return Markup(convert(text, display=display))


def _paragraphs(name: str) -> Iterator[str | list[str]]:
    """Yield the paragraphs of a docstring: a formula between ``$$``, or texts with the formulas between them."""
    for text in documentation("methods", name).partition("\n\nArgs:")[0].split("\n\n"):
        yield text.strip("$") if text.startswith("$$") else re.split(r"\$(.+?)\$", text.replace("``", ""), flags=re.S)
