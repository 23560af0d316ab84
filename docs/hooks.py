"""What the site needs beside the pages of this folder: the changelog, the tutorial, the command, and links that lead
out of it.

Pages link to files of the repository as its web view understands it (``../src/nibt/pair.py``). The site does not have
those files; there, such a link is the file's name.
"""

import json
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File
from typer.cli import get_docs_for_click

from nibt.cli.main import app

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_ROOT_LINK = re.compile(r"\]\((?!\w+:|#)(docs/)?")


def on_files(files: Any, config: Any) -> Any:
    """Add the changelog, whose links are relative to the root of the repository, and the tutorial."""
    root = Path(config.config_file_path).parent
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=_ROOT_LINK.sub(_from_docs, text)))
    files.append(File.generated(config, "tutorial.md", content=_tutorial(Path(config.docs_dir) / "tutorial.ipynb")))
    return files


def _from_docs(link: re.Match[str]) -> str:
    """Make the start of a link relative to this folder."""
    return "](" if link[1] else "](../"


def _tutorial(notebook: Path) -> str:
    """Return a notebook as Markdown."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in texts)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace links out of the folder by names of files, and add typer's reference to the page of the command."""
    if page.file.src_uri == "commands.md":
        markdown += _commands()
    root, folder = Path(config.config_file_path).parent, Path(config.docs_dir)
    here = (folder / page.file.src_uri).parent

    def inside(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve()
        if target.is_relative_to(folder) or not target.is_relative_to(root):
            return link[0]
        name = target.relative_to(root)
        return f"`{name}`" if link[1].strip("`") in (target.name, str(name)) else f"{link[1]} (`{name}`)"

    return _LINK.sub(inside, markdown)


def _commands() -> str:
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="nibt"), name="nibt")
    return text.partition("\n")[2]  # without the title, which the page has
