"""The frame of all pages: one HTML document that loads nothing and forbids it with a policy; templates and tables."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from nibt.io import read_text
from nibt.results.outputs import unsigned

_HERE = files("nibt.report.html")
STYLE = read_text(_HERE / "document.css")
# what makes the tables of ``data_table`` sortable, in the page that has them
TABLE_STYLE = read_text(_HERE / "tables.css")
TABLE_SCRIPT = read_text(_HERE / "tables.js")
_TEMPLATES = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_PLAIN = Environment(undefined=StrictUndefined)
_TEMPLATES.filters["px"] = "{:.1f}".format


@cache
def template(name: str, package: str = "nibt.report.html") -> Template:
    """Return a template of jinja2 beside a module; it escapes all values that are not ``Markup``."""
    return _TEMPLATES.from_string(read_text(files(package) / name))


def plain_text(name: str, package: str, **values: object) -> list[str]:
    """Return the paragraphs of a template whose values are no HTML; each is one line of the file."""
    return _PLAIN.from_string(read_text(files(package) / name)).render(values).split("\n\n")


def rendered(name: str, **values: object) -> Markup:
    """Return a template of this folder with its values."""
    return Markup(template(name).render(values).strip())


def macros(name: str, package: str = "nibt.report.html") -> Any:
    """Return a module whose functions are the macros of a template, and return ``Markup``."""
    return template(name, package).module


def document(
    title: str, body: str, style: str = "", scripts: Sequence[str] = (), request: Mapping[str, object] | None = None
) -> str:
    """Return the page of HTML, whose policy (W3C, level 3) forbids all but data URIs and its own style and scripts."""
    style = STYLE + style
    running = " ".join(map(_hashed, scripts)) or "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hashed(style)}; script-src {running}; base-uri 'none'; "
        "form-action 'none'"
    )
    signature = "" if request is None else unsigned(request)
    values = {"title": title, "body": Markup(body), "style": style, "scripts": scripts}
    text = rendered("document.html", **values, policy=policy, signature=signature)
    return f"{text}\n".encode(errors="backslashreplace").decode()  # a file's name may have bytes that are not text


def data_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Return a table of texts, whose first column names the rows; it can be sorted and searched."""
    return rendered("tables.html", headings=headings, rows=rows)


def _hashed(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
