"""Reading and showing of text, and atomic writing of files."""

import errno
import glob
import itertools
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import file_digest, sha256
from importlib.resources.abc import Traversable
from io import BufferedReader
from pathlib import Path
from typing import Any

from nibt.errors import CannotWrite


def read_text(path: Path | Traversable) -> str:
    """Return the text of a file in UTF-8. The byte order mark that some editors write is no part of it."""
    return path.read_text(encoding="utf-8-sig")


def load_json(source: Path | Traversable | str) -> Any:
    """Return what a JSON file, or a text, has."""
    try:
        return json.loads(source if isinstance(source, str) else read_text(source))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


_JOINERS = "\u200c\u200d"  # of scripts and emoji


def one_line(text: str) -> str:
    r"""Return a text on one line: blanks become spaces, and what cannot be printed becomes its escape.

    A caption, a label or the name of a file may have line breaks, control sequences of terminals, or bytes that are no
    text. Whatever is printed or drawn goes through this function.

    >>> one_line("a red\ncat"), one_line("\x1b[2J"), one_line("\udcff")
    ('a red cat', '\\x1b[2J', '\\udcff')
    """
    return "".join(character if character in _JOINERS else _visible(character) for character in text)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


def check_writable(path: Path) -> None:
    """Check that a file can be written, before a computation starts."""
    folder = path.parent
    if not folder.is_dir():
        raise CannotWrite(f"cannot write {path.name}: the folder {folder} does not exist; create it first")
    if path.is_dir():
        raise CannotWrite(f"cannot write {path}: it is a folder; give the name of a file in it")
    if not os.access(folder, os.W_OK):
        raise CannotWrite(f"cannot write {path.name}: the folder {folder} is not writable; choose another folder")


def open_bytes(path: str | Path) -> BufferedReader:
    """Open a file for reading its bytes."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(path, "rb")


DIGITS = 16
"""The number of hexadecimal digits of a short digest."""


def short_digest(path: str | Path) -> str:
    """Return the first ``DIGITS`` hexadecimal digits of the SHA-256 of a file."""
    with open_bytes(path) as stream:
        return file_digest(stream, "sha256").hexdigest()[:DIGITS]


def file_digests(values: Iterable[Any]) -> dict[str, str]:
    """Compute the digests of all files that values of options name, by the text that names them.

    What a file has is a part of a request, as its name is. A text may be a name, or a name after a word and a colon
    (``mean:FILE``, ``segments:FILE``); ``{stem}`` stands for any part of a name, and has the digest of all such files.
    """
    digests: dict[str, str] = {}
    for text in (value for value in values if isinstance(value, str)):
        for name in dict.fromkeys((text, text.partition(":")[2])):
            try:
                paths = sorted(glob.glob(glob.escape(name).replace("{stem}", "*"))) if name else []
                hashes = [short_digest(path) for path in paths if os.path.isfile(path)]
            except (OSError, ValueError):  # too long, or with a null character
                continue
            if hashes:
                digests[text] = hashes[0] if len(hashes) == 1 else sha256("".join(hashes).encode()).hexdigest()[:DIGITS]
    return dict(sorted(digests.items()))


_waiting: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("_waiting", default=None)
"""The finished drafts of ``all_or_none``, with their paths."""
_numbers = itertools.count()


@contextmanager
def all_or_none() -> Iterator[None]:
    """Write all files of the block when it succeeds, and none of them if it fails."""
    drafts: list[tuple[Path, Path]] = []
    token = _waiting.set(drafts)
    try:
        yield
        for draft, path in drafts:
            with _explained(path):
                draft.replace(path)
    finally:
        _waiting.reset(token)
        for draft, _ in drafts:
            draft.unlink(missing_ok=True)


def draft_target(path: Path) -> str | None:
    """Return the name of the file that ``atomic_write`` writes by way of a draft; None if the path is no draft."""
    match = re.fullmatch(r"\.(.+)\.\d+-\d+-\d+", path.stem)
    return match and match[1] + path.suffix


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Provide a temporary path in the same folder, which replaces ``path`` when the block succeeds.

    If the block raises an error, the temporary file is removed and ``path`` stays as it was. Inside ``all_or_none``,
    ``path`` is replaced when that block succeeds.
    """
    check_writable(path)
    number = f"{os.getpid()}-{threading.get_ident()}-{next(_numbers)}"
    stem = os.fsencode(path.stem)[:100].decode(errors="ignore")
    draft, waiting = path.with_name(f".{stem}.{number}{path.suffix}"), _waiting.get()
    try:
        with _explained(path):
            yield draft
            if waiting is None:
                draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if waiting is not None:
        waiting.append((draft, path))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}; no partial file is left") from error
