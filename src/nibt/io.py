"""Reading and showing of text, and atomic writing of files."""

import errno
import glob
import itertools
import json
import math
import os
import re
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from hashlib import file_digest, sha256
from importlib.resources.abc import Traversable
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from nibt.errors import TOO_DEEP, BadInput, BadOption, CannotWrite, reason

_MOST_LEVELS = 100
_MOST_TEXT = 2**31
_LONGEST_NAME = 255  # of a file or a folder
_Data = TypeVar("_Data")


def read_text(path: Path | Traversable) -> str:
    """Return the text of a file in UTF-8. The byte order mark that some editors write is no part of it."""
    if isinstance(path, Path):
        check_regular(path, _MOST_TEXT)
    return path.read_text(encoding="utf-8-sig")


def read_path(name: str, value: object) -> Path:
    """Return the path of an argument that names a file or a folder."""
    if not isinstance(value, str | os.PathLike) or value == "":
        raise BadInput(f"{name} must be a path (got {value!r:.60})")
    if "\0" in str(value):
        raise BadInput(f"{name} must have no null character (got {str(value)!r:.60}): choose another name")
    if any(len(part) > _LONGEST_NAME for part in Path(value).parts):
        raise BadInput(
            f"{name} must have names of at most {_LONGEST_NAME} characters (got {str(value)!r:.60}...): choose another "
            "name"
        )
    return Path(value)


def file_path(name: str, value: object) -> Path:
    """Return the path of an argument that names a file to write, whose end would be lost if it named a folder."""
    path = read_path(name, value)
    if str(value).endswith((os.sep, f"{os.sep}.")):
        raise BadOption(f"{name} must be that of a file (got {str(value)!r:.100}, which is a folder): add a name to it")
    return path


def check_regular(path: str | Path, most: int | float = math.inf) -> None:
    """Check that a path is not a device or a pipe, which may have no end, and that its file has at most that length."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if os.path.isfile(path) and os.path.getsize(path) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))


def load_json(source: Path | Traversable | str | bytes) -> Any:
    """Return what a JSON file, or a text, has."""
    text = source if isinstance(source, str | bytes) else read_text(source)
    return _shallow(partial(json.loads, text, object_pairs_hook=_object))


def _object(items: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON; a key that occurs twice would lose a value."""
    data = dict(items)
    if len(data) < len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return data


def load_toml(path: Path | Traversable) -> dict[str, Any]:
    """Return what a TOML file has."""
    text = read_text(path)

    # before it is parsed: the time that tomllib takes for a dotted key grows with the square of its parts
    if any(key.count(".") > _MOST_LEVELS for key in re.split(r"[\n,={}\[\]]", text)):
        raise ValueError(TOO_DEEP)
    return _shallow(partial(tomllib.loads, text))


def _shallow(parse: Callable[[], _Data]) -> _Data:
    """Return parsed data; what is nested deeper than any file of ours would end Python's stack in later functions."""
    try:
        data = parse()
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error

    # level by level, since a function that calls itself would meet the limit that it is to guard
    level: list[Any] = [[data]]
    for _ in range(_MOST_LEVELS):
        values = (value for item in level for value in (item.values() if isinstance(item, dict) else item))
        level = [value for value in values if isinstance(value, dict | list)]
        if not level:
            return data

    raise ValueError(TOO_DEEP)


def unicode_text(name: str, text: object) -> str:
    """Return a plain string without surrogates, which Python makes of bytes that are not text in UTF-8."""
    if not isinstance(text, str):
        raise BadInput(f"the {name} must be a string (got {type(text).__name__})")
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise BadInput(f"the {name} has bytes that are not text in UTF-8 (got {text!r:.80}): save or type it in UTF-8")
    return str.__str__(text)  # of a subclass, such as a string of NumPy


_JOINERS = "\u200c\u200d"  # of scripts and emoji


def one_line(text: str) -> str:
    r"""Return a text on one line: blanks become spaces, and what cannot be printed becomes its escape.

    A caption, a label or the name of a file may have line breaks, control sequences of terminals, or bytes that are no
    text. Whatever is printed or drawn goes through this function.

    >>> one_line("a red\ncat"), one_line("\x1b[2J"), one_line("\udcff")
    ('a red cat', '\\x1b[2J', '\\udcff')
    """
    if text.isprintable():
        return text

    return "".join(
        [character if character.isprintable() or character in _JOINERS else _visible(character) for character in text]
    )


def _visible(character: str) -> str:
    """Return what stands for a character that cannot be printed."""
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
    check_regular(path)
    return open(path, "rb")


DIGITS = 16
"""The number of hexadecimal digits of a short digest."""


def short_digest(path: str | Path) -> str:
    """Return the first ``DIGITS`` hexadecimal digits of the SHA-256 of a file."""
    with open_bytes(path) as stream:
        return file_digest(stream, "sha256").hexdigest()[:DIGITS]


WINDOW = "#window="
"""What stands between the name of an image and its window, as in ``scan.dcm#window=40,400``."""


def existing_paths(text: str) -> list[Path]:
    """Return the existing files and folders that a text may name.

    The text is a path, or a path after words and colons (``mean:FILE``, ``grid:coco:FOLDER``); ``{stem}`` stands for
    any part of a name, and the window of an image is no part of its name.
    """
    after_first_colon = text.partition(":")[2]
    after_last_colon = text.rpartition(":")[2]
    before_window = text.rpartition(WINDOW)[0]

    paths: list[str] = []
    for name in dict.fromkeys((text, after_first_colon, after_last_colon, before_window)):
        if not name.strip():
            continue
        with suppress(OSError, ValueError):  # too long, or with a null character
            pattern = glob.escape(os.path.expanduser(name)).replace("{stem}", "*")
            paths += sorted(glob.glob(pattern))

    return [Path(path) for path in paths]


def file_digests(values: Iterable[object]) -> dict[str, str]:
    """Compute the digests of all files that values of options name, by the text that names them.

    What a file has is a part of a request, as its name is. A pattern has the digest of all files that it names.
    """
    digests: dict[str, str] = {}
    for text in (value for value in values if isinstance(value, str)):
        hashes = [short_digest(path) for path in existing_paths(text) if path.is_file()]
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

        # all drafts are complete, so what usually fails, such as drawing or a full disk, can no longer leave a part
        for draft, path in drafts:
            with _explained(path):
                draft.replace(path)
    finally:
        _waiting.reset(token)
        for draft, _ in drafts:
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Provide a temporary path in the same folder, which replaces ``path`` when the block succeeds.

    If the block raises an error, the temporary file is removed and ``path`` stays as it was. Inside ``all_or_none``,
    ``path`` is replaced when that block succeeds. Links are followed and kept.
    """
    path = path.resolve() if path.is_symlink() else path
    check_writable(path)

    # several processes and threads may write one path; the stem is cut, since file systems limit names to 255 bytes
    number = f"{os.getpid()}-{threading.get_ident()}-{next(_numbers)}"
    stem = os.fsencode(path.stem)[:100].decode(errors="ignore")
    draft = path.with_name(f".{stem}.{number}{path.suffix}")

    waiting = _waiting.get()
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


def read_lines(path: Path) -> list[str]:
    """Return the non-blank lines of a text file."""
    try:
        # splitlines would also split at signs that a caption may have, such as U+2028
        return [line.strip() for line in read_text(path).split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read as lines of text ({reason(error)}): give a text file in UTF-8"
        ) from error


def remove(paths: Iterable[Path]) -> None:
    """Remove files and empty folders, up to the first folder that is in use."""
    for path in paths:
        try:
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        except OSError:
            return
