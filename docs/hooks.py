"""What the site needs beside the pages of this folder: the changelog, notebooks, commands, metrics, protocols,
formulas, and links that lead out of it.

Formulas are LaTeX between ``$$``, or ``$`` in a sentence. The site has them as MathML, which needs no script.

Pages link to files of the repository as its web view understands it (``../src/nibt/pair.py``). The site does not have
those files; there, such a link is the file's name, or leads to the page of a metric. Notebooks become pages with their
stored outputs.
"""

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping
from html import unescape
from inspect import getfile
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from typer.cli import get_docs_for_click

import nibt
from nibt.cli.main import app
from nibt.registry import find

_METRICS = Path("src/nibt/metrics")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FORMULA = re.compile(r'<(div|span) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
_ROOT_LINK = re.compile(r"\]\((?!\w+:|#)(docs/)?")


def _generate() -> ModuleType:
    """Import ``generate.py``, which is no package."""
    spec = importlib.util.spec_from_file_location("generate", Path(__file__).parent / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_GENERATE = _generate()


_WIDE_TABLE = re.compile(r"^\|(?:[^|\n]*\|){9,}$", re.M)
_WIDE, _NARROWER = ("76.25em", "72em"), ("76.234375em", "71.984375em")
"""From which width on the theme shows the navigation beside a page, and what takes its place: 1,152 pixels."""


def on_post_build(config: Any) -> None:
    """Show the navigation also on screens of 1,200 pixels, where the theme hides it behind a button."""
    assets = Path(config.site_dir) / "assets"
    for path in (*assets.glob("stylesheets/*.css"), *assets.glob("javascripts/bundle*.js")):
        text = path.read_text(encoding="utf-8")
        for theirs, ours in (_WIDE, _NARROWER):
            text = text.replace(f"width:{theirs}", f"width:{ours}").replace(f"width: {theirs}", f"width: {ours}")
        path.write_text(text, encoding="utf-8")


def on_config(config: Any) -> Any:
    """Add the pages that are made from docstrings and plans to the navigation."""
    (reference,) = (section["Reference"] for section in config["nav"] if "Reference" in section)
    (metrics,) = (section["Metrics"] for section in reference if "Metrics" in section)
    metrics += [{name: f"reference/metrics/{name}.md"} for name in _GENERATE.own("metrics")]
    (python,) = (section for section in reference if "Python" in section)
    names = [{name: f"reference/{_GENERATE.python_file(name)}"} for name in sorted(nibt.__all__, key=str.lower)]
    python["Python"] = [python["Python"], *names]
    (commands,) = (section for section in reference if "Commands" in section)
    pages = [{f"nibt {name}": f"reference/commands/{name}.md"} for name in _commands()]
    commands["Commands"] = [commands["Commands"], *pages]
    reference.append({"Protocols": [{name: f"reference/protocols/{name}.md"} for name in _GENERATE.protocols()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the changelog, whose links are relative to the root of the repository, notebooks, and generated pages."""
    for name in _GENERATE.own("metrics"):
        files.append(File.generated(config, f"reference/metrics/{name}.md", content=_GENERATE.metric_page(name)))
    for name in nibt.__all__:
        path = f"reference/{_GENERATE.python_file(name)}"
        files.append(File.generated(config, path, content=_GENERATE.python_page(name)))
    for name, command in _commands().items():
        files.append(File.generated(config, f"reference/commands/{name}.md", content=_command_page(name, command)))
    for name in _GENERATE.protocols():
        files.append(File.generated(config, f"reference/protocols/{name}.md", content=_GENERATE.protocol_page(name)))
    root, docs = Path(config.config_file_path).parent, Path(config.docs_dir)
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=_ROOT_LINK.sub(_from_docs, text)))
    for notebook in sorted(docs.glob("tutorials/*.ipynb")):
        name = notebook.relative_to(docs).with_suffix(".md").as_posix()
        files.append(File.generated(config, name, content=_notebook(notebook)))
    return files


def _from_docs(link: re.Match[str]) -> str:
    """Make the start of a link relative to this folder."""
    return "](" if link[1] else "](../"


def _notebook(path: Path) -> str:
    """Return a notebook as Markdown, with its outputs."""
    parts: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            parts.extend(_output(output))
    return "\n\n".join(parts) + f"\n\n[This page as a notebook]({path.name})\n"


def _output(output: Mapping[str, Any]) -> Iterator[str]:
    """Yield an output as Markdown: pictures and tables as they are, other results as text."""
    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            source = f"data:{kind};base64,{''.join(data[kind]).strip()}"
            yield f'<p><img alt="The picture that the cell draws" src="{source}"></p>'
            return
    if "text/html" in data:
        yield '<div class="output">' + re.sub(r"\n\s*\n", "\n", "".join(data["text/html"])) + "</div>"
    elif output.get("text") or "text/plain" in data:
        yield f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace links out of the folder by names of files, and list the commands."""
    if page.file.src_uri == "reference/commands.md":
        markdown += _command_table()
    if page.file.src_uri == "reference/metrics/index.md":
        names = "|".join(_GENERATE.own("metrics"))
        markdown = re.sub(rf"(?<!\[)`({names})`", r"[`\1`](\1.md)", markdown)
    if page.file.src_uri == "reference/python.md":
        row = re.compile(r"^\| `(\w+)` \|", re.M)
        markdown = row.sub(lambda cell: f"| [`{cell[1]}`]({_GENERATE.python_file(cell[1])}) |", markdown)
    if _WIDE_TABLE.search(markdown):
        page.meta["hide"] = ["toc"]  # whose width the table takes
    root, folder = Path(config.config_file_path).parent, Path(config.docs_dir)
    here = (folder / page.file.src_uri).parent

    def inside(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve()
        if target.suffix == ".ipynb" and not page.file.src_uri.startswith("tutorials/"):
            return f"[{link[1]}]({link[2].removesuffix('.ipynb')}.md{link[3] or ''})"
        if target.is_relative_to(folder) or not target.is_relative_to(root):
            return link[0]
        name = target.relative_to(root)
        paths = {metric: Path(getfile(find("metrics", metric))) for metric in _GENERATE.own("metrics")}
        metrics = [metric for metric, path in paths.items() if path.name == name.name]
        if name.parent == _METRICS and metrics:
            metric = link[1].strip("`") if link[1].strip("`") in metrics else metrics[0]
            return f"[{link[1]}]({os.path.relpath(folder / f'reference/metrics/{metric}.md', here)})"
        return f"`{name}`" if link[1].strip("`") in (target.name, str(name)) else f"{link[1]} (`{name}`)"

    return _LINK.sub(inside, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Typeset the formulas, which ``pymdownx.arithmatex`` has marked."""
    return _FORMULA.sub(_typeset, html)


def _typeset(formula: re.Match[str]) -> str:
    """Return a formula as MathML; if it is wider than the page, it scrolls."""
    mathml = convert(unescape(formula[2]).strip(), display="block" if formula[1] == "div" else "inline")
    if "\\" in mathml:
        raise PluginError(f"latex2mathml must know all commands of a formula (got {formula[2]}): use others")
    return f'<div class="formula">{mathml}</div>' if formula[1] == "div" else mathml


def _commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def _command_page(name: str, command: Any) -> str:
    """Return typer's reference of a command."""
    context = typer.Context(command, info_name=f"nibt {name}")
    return get_docs_for_click(obj=command, ctx=context, name=f"nibt {name}").replace(
        f"# `nibt {name}`", f"# nibt {name}", 1
    )


def _command_table() -> str:
    """Return a table of the commands, each with the first line of its help."""
    lines = ["| command | |", "|---|---|"]
    for name, command in _commands().items():
        lines.append(f"| [`nibt {name}`](commands/{name}.md) | {(command.help or '').splitlines()[0]} |")
    return "\n\n" + "\n".join(lines) + "\n"
