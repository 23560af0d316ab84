"""The code blocks of the documents: how they are read, run if possible, and checked otherwise.

Blocks of one page run in order, in one folder with small versions of what a reader has (a photograph, a model). A
comment on the line before a block marks it:

    <!-- not run: why -->   cannot run here: its Python must compile, its commands must exist
    <!-- slow -->           runs with the slow tests only
    <!-- small: OLD => NEW; OLD => NEW -->
                            runs with the slow tests only, with these replacements: on less data, in less time
    <!-- file: NAME -->     is written into the folder under that name

A ``text`` block right after a block is what that block prints: words and the first three digits of numbers are
compared, and ``...`` stands for any text. The output of a ``small`` block, and of one whose model or data have a
substitute (``STAND_INS``), is not compared.

``python -m tests.documents`` lists what is not run, and why; ``python -m tests.documents PAGE ...`` prints what the
blocks of pages print.
"""

import ast
import contextlib
import importlib.util
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
import yaml

ROOT = Path(__file__).parents[1]
STAND_INS = {"/data/": "data/", "openai/clip-vit-base-patch32": "my-clip"}
"""What a reader has and the tests lack, with its substitute."""
_BLOCK = re.compile(r"(?:^<!-- (?P<marker>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
_OUTPUT = re.compile(r"^```(?:bash|python)\n((?:(?!^```$).)*?)^```\n\n```text\n(.*?)^```$", re.M | re.S)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")
_PROGRESS = re.compile(r"^nibt: .* elapsed.*\n", re.M)
"""How long a command takes so far, which it prints after ten seconds."""
_PROGRAMS = ("nibt", "pip", "pre-commit", "python", "python3", "git", "mkdocs", "ray", "pdftoppm")
_END, _NEXT = "\x1e", "\x1f"


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    marker: str
    output: str | None = None
    """What the page says that the block prints."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def not_run(self) -> str:
        """Why the block cannot run here; empty if it can."""
        if self.marker == "tests":
            return "the gate runs it: .ci/run reads it from the page"
        return self.marker.removeprefix("not run:").strip() if self.marker.startswith("not run:") else ""

    @property
    def slow(self) -> bool:
        return self.marker == "slow" or bool(self.replacements)

    @property
    def replacements(self) -> list[tuple[str, str]]:
        """Replacements with which the block runs in minutes."""
        if not self.marker.startswith("small:"):
            return []
        changes = [change.partition("=>") for change in self.marker.removeprefix("small:").split(";")]
        return [(old.strip(), new.strip()) for old, _, new in changes]

    def small(self) -> "Block":
        """Return the block as it is run."""
        text = self.text
        for old, new in self.replacements:
            assert old in text, f"{self}: {old!r} is not in the block"
            text = text.replace(old, new)
        return replace(self, text=text)

    @property
    def compared(self) -> bool:
        """Whether the block prints here what it prints for a reader."""
        models = (*STAND_INS, "my-clip", "my-model")
        return not (self.not_run or self.replacements or self.file or any(name in self.text for name in models))

    @property
    def file(self) -> str:
        return self.marker.removeprefix("file:").strip() if self.marker.startswith("file:") else ""


def load_docs_module(name: str) -> ModuleType:
    """Import a script of ``docs``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look up their types
    spec.loader.exec_module(module)
    return module


def pages() -> list[str]:
    """Return every document that has a block."""
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in documents if "```" in path.read_text(encoding="utf-8")]


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    result = [
        Block(
            page,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            match["marker"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]
    assert 2 * len(result) == len(re.findall(r"^\s*```", text, re.M)), f"{page}: a block that is not at the margin"
    outputs = dict(_OUTPUT.findall(text))
    return [replace(block, output=outputs.get(block.text)) for block in result]


def stood_in(text: str) -> str:
    for real, small in STAND_INS.items():
        text = text.replace(real, small)
    return text


def commands(block: Block, folder: Path) -> list[list[str]]:
    """Return the commands that a shell would run for a block, with their arguments."""
    shims, log = folder / ".venv" / "bin", folder / ".commands"
    shims.mkdir(parents=True, exist_ok=True)
    for name in _PROGRAMS:
        (shims / name).write_text(f"""#!/bin/sh
{{ printf '%s' '{name}'; for one; do printf '\\037%s' "$one"; done; printf '\\036'; }} >> '{log}'
""")
        (shims / name).chmod(0o755)
    log.write_text("")
    path = os.pathsep.join([str(shims), "/usr/bin", "/bin"])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"
    return [[stood_in(part) for part in command.split(_NEXT)] for command in log.read_text().split(_END)[:-1]]


def check(block: Block, folder: Path) -> None:
    """Check a block, whether it is run or not."""
    if block.language == "python":
        compile(block.text, str(block), "exec")
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "jsonl":
        for line in block.text.splitlines():
            json.loads(line)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "bash":
        for command in commands(block, folder):
            _check_command(block, command)
    else:
        assert block.language == "text", f"{block}: name its language, or text"


def _check_command(block: Block, command: list[str]) -> None:
    name, *arguments = command
    if name == "nibt":
        _parsed(block, arguments)
    elif name == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        names = ",".join(re.findall(r"(?:nibt|\.)\[([\w,]+)\]", " ".join(arguments)))
        assert set(filter(None, names.split(","))) <= set(extras), f"{block}: {command}"
    elif name.startswith("python") and arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).is_file(), f"{block}: there is no {arguments[0]}"


def _parsed(block: Block, arguments: list[str]) -> None:
    """Parse a command line of nibt as far as its options and their types."""
    from nibt.cli.main import app

    command: Any = typer.main.get_command(app)
    while isinstance(command, typer.core.TyperGroup) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        assert name in command.commands, f"{block}: there is no command {name!r}"
        command = command.commands[name]
    try:
        command.make_context(command.name, list(arguments))
    except typer.Exit:
        pass
    except Exception as error:
        raise AssertionError(f"{block}: nibt {command.name} {arguments}: {error}") from error


def run(block: Block, folder: Path, names: dict[str, Any]) -> str:
    """Run a block and return what it prints; ``names`` are those that earlier Python blocks of the page defined."""
    block, printed = block.small(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        if block.file:
            (folder / block.file).write_text(block.text)
            importlib.invalidate_caches()
        elif block.language == "python":
            exec(compile(stood_in(block.text), str(block), "exec"), names)
        elif block.language == "bash":
            for command in commands(block, folder):
                _run_command(block, command, folder)
    return _PROGRESS.sub("", printed.getvalue())


def check_output(block: Block, text: str) -> None:
    """Check that a block prints what its page says: its words, and its numbers to three digits."""
    if not block.compared:
        return
    if block.output is None:
        assert not text, (
            f"{block}: add what it prints as a block of text (python -m tests.documents {block.page}):\n{text}"
        )
    else:
        assert prints(text, block.output), f"{block} prints, other than the page says:\n{text}"


def prints(text: str, expected: str) -> bool:
    """Return whether a text is as expected; ``...`` is any text."""
    parts = re.split(rf"({_NUMBER.pattern}|\.\.\.|\s+)", expected.strip())
    pattern = "".join(
        ".*?"
        if part == "..."
        else r"\s+"
        if part.isspace()
        else f"({_NUMBER.pattern})"
        if _NUMBER.fullmatch(part)
        else re.escape(part)
        for part in parts
    )
    match = re.fullmatch(pattern, text.strip(), re.S)
    return match is not None and all(map(_close, match.groups(), filter(_NUMBER.fullmatch, parts)))


def _close(value: str, expected: str) -> bool:
    if not re.search(r"[.e]", expected):
        return value == expected
    last = 10.0 ** -len(expected.partition(".")[2].partition("e")[0])
    return math.isclose(float(value), float(expected), rel_tol=5e-3, abs_tol=0 if "e" in expected else 1.01 * last)


def _run_command(block: Block, command: list[str], folder: Path) -> None:
    from nibt.cli import main

    _check_command(block, command)
    assert command[:2] != ["nibt", "serve"], f"{block}: it serves until it is stopped, and needs a marker: not run"
    if command[0] == "nibt":
        left: int | str | None = 0
        try:
            main(command[1:])
        except SystemExit as exit:
            left = exit.code
        assert not left, f"{block}: {command} left with {left}"
    elif command[0] == "pip" and command[-1] == "." and (folder / "pyproject.toml").exists():
        _installed(folder)
    else:
        assert command[0] == "pip" or command[1:3] == ["-m", "venv"], f"{block}: {command} needs a marker: not run"


def _installed(folder: Path) -> None:
    """Write the metadata that pip would write for a small package, whose modules are on the path already."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    name = project["name"].replace("-", "_")
    metadata = folder / f"{name}-{project['version']}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    from nibt import registry

    registry._entry_points.cache_clear()
    registry._available.cache_clear()


def furnish(folder: Path, clip: Path) -> None:
    """Create what a reader has: photographs, a model, labels, a table of pairs, a folder of images."""
    samples = ROOT / "src" / "nibt" / "data" / "samples"
    names = ("chelsea", "coffee", "collage", "rocket")
    (folder / "photos").mkdir()
    (folder / "mine").mkdir()
    for place, name in (("photo.jpg", "chelsea"), ("mine/photo.jpg", "chelsea"), ("other.jpg", "coffee")):
        shutil.copy(samples / f"{name}.jpg", folder / place)
    for name in names:
        shutil.copy(samples / f"{name}.jpg", folder / "photos")
    for name in ("my-clip", "my-model"):
        shutil.copytree(clip, folder / name)
    (folder / "labels.txt").write_text("a cat\na cup of coffee\na rocket\n")
    captions = ("a cat", "a cup of coffee", "a cat and a cup of coffee", "a rocket")
    rows = [f"photos/{names[item % 4]}.jpg,{captions[item % 4]}" for item in range(12)]
    (folder / "pairs.csv").write_text("\n".join(["image,caption", *rows, ""]))


def not_run() -> Iterator[Block]:
    return (block for page in pages() for block in blocks(page) if block.not_run)


def called(block: Block) -> set[str]:
    """Return the names of nibt that a Python block uses, also one that is not run."""
    tree = ast.walk(ast.parse(block.text))
    return {
        node.attr
        for node in tree
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nibt"
    }


def printed(page: str) -> None:
    """Print what each block of a page prints."""
    from tests import tiny

    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        folder, names = Path(temporary), {"__name__": "__main__"}
        model = tiny.clip()
        model.module.save_pretrained(folder / "clip")
        model.processor.save_pretrained(folder / "clip")
        furnish(folder, folder / "clip")
        sys.path.insert(0, temporary)
        importlib.invalidate_caches()
        for block in blocks(page):
            if not block.not_run and (text := run(block, folder, names)):
                print(f"--- {block}{'' if block.compared else ' (not compared)'}\n{text}")


def main() -> None:
    """Print what blocks print, or list those that do not run."""
    if len(sys.argv) > 1:
        for page in sys.argv[1:]:
            printed(page)
        return
    listed = [block for page in pages() for block in blocks(page) if block.language in ("python", "bash")]
    left = list(not_run())
    print(
        f"{len(listed)} blocks of Python and commands: {len(listed) - len(left)} run "
        f"({sum(block.slow for block in listed)} of them with the slow tests), {len(left)} do not"
    )
    for block in left:
        print(f"{block}: {block.not_run}")


if __name__ == "__main__":
    main()
