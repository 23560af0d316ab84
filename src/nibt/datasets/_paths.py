"""Expansion of patterns, folders and lists of names to files."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nibt.datasets._files import natural
from nibt.errors import BadInput

_BRACE = re.compile(r"\{([^{}]*)\}")
SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_SEPARATOR = "::"
"""The separator of several names in one option, as in WebDataset."""


def existing(patterns: Iterable[str | os.PathLike]) -> list[Path]:
    """Return the files and folders that patterns expand to."""
    paths = [Path(name).expanduser() for pattern in patterns for name in expanded(os.fspath(pattern))]
    for path in paths:
        if not path.exists():
            raise BadInput(f"there are no pairs in {str(path)!r}: no such file or folder")
    return paths


def named_paths(names: str | Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files of a name."""
    paths = existing(str(names).split(_SEPARATOR))
    if len(paths) == 1 and paths[0].is_dir():
        paths = files_in(paths[0], endings)
        if not paths:
            raise BadInput(f"{str(names)!r} has no {' or '.join(endings)} files")
    return paths


def joined(paths: list[Any]) -> str:
    """Join several names to one option."""
    return _SEPARATOR.join(os.fspath(path) for path in paths)


def files_in(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files of a folder with one of the endings, in natural order of their names."""
    names = [entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(endings)]
    return [folder / name for name in sorted(names, key=natural) if not name.startswith(".")]


def expanded(pattern: str) -> Iterator[str]:
    """Yield the names that a pattern with braces expands to. A pattern that is the name of a file is not expanded.

    >>> list(expanded("a-{08..11}.tar")), list(expanded("{a,b}.tar"))
    (['a-08.tar', 'a-09.tar', 'a-10.tar', 'a-11.tar'], ['a.tar', 'b.tar'])

    """
    brace = _BRACE.search(pattern)
    if brace is None or os.path.exists(pattern):
        yield pattern
        return
    for choice in _choices(brace[1]):
        yield from expanded(pattern[: brace.start()] + choice + pattern[brace.end() :])


def _choices(text: str) -> list[str]:
    first, dots, last = text.partition("..")
    if not (dots and first.isdecimal() and last.isdecimal()):
        return text.split(",")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
