"""Reading of tables, lists and JSON files, whose errors have their name and line, and expansion of names to files."""

import csv
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nibt.errors import BadInput, BadOption, NibtError
from nibt.io import check_regular, load_json, read_text

_MOST_NAMES = 1_000_000
_BRACE = re.compile(r"\{([^{}]*)\}")
SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_SEPARATOR = "::"
"""The separator of several names in one option, as in WebDataset."""


def table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the rows of a CSV file, or of a TSV file by its ending, with their locations (``captions.txt, line 2``)."""
    for row, where in table_rows(path, columns):
        if isinstance(row, BadInput):
            raise row
        yield row, where


def table_rows(
    path: Path, columns: tuple[str, ...], remedy: str = ""
) -> Iterator[tuple[dict[str, str] | BadInput, str]]:
    """Yield the rows of a file as ``table`` does, with an error in place of each row that cannot be read."""
    with _open_table(path) as (reader, heading):
        double = next((name for name in columns if heading.count(name) > 1), None)
        if double is not None:
            raise BadInput(f"{path} has {heading.count(double)} columns {double!r}: rename or remove all but one")

        lacking = [name for name in columns if name not in heading]
        if lacking and len(heading) == 1 and ";" in heading[0]:
            raise BadInput(f"the columns of {path} are separated by semicolons: separate them by commas")
        if lacking and remedy:
            raise missing_columns(path, lacking, heading, remedy)
        if lacking:
            raise BadInput(
                f"{path} has no column {', '.join(lacking)}: its first line must name {', '.join(columns)} "
                f"(got {', '.join(heading) or 'nothing'})"
            )

        for fields in filter(None, reader):
            where = f"{path.name}, line {reader.line_num}"
            if len(fields) == len(heading):
                yield dict(zip(heading, fields, strict=True)), where
            else:
                message = f"expected {len(heading)} fields (got {len(fields)}); put texts that have the separator in "
                yield BadInput(f"{where}: {message}double quotes"), where


def table_heading(path: Path) -> list[str]:
    """Return the names of the columns of a CSV or TSV file."""
    with _open_table(path) as (_, heading):
        return heading


@contextmanager
def _open_table(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """Open a CSV or TSV file, and provide the reader of its rows and the names of its columns."""
    with readable(path), path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        try:
            yield reader, [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            text = str(error)
            limit = csv.field_size_limit()
            text = f"a field has more than {limit:,} characters" if "field limit" in text else text
            where = f"at line {reader.line_num}: {text}"
            raise BadInput(f"{path} is a damaged table ({where}): repair it; a double quote may be missing") from error


def missing_columns(path: Path, lacking: Sequence[str], names: Sequence[str], remedy: str) -> BadOption:
    """Return the error about missing columns, with the columns of the table and how to choose them."""
    return BadOption(f"{path} has no column {', '.join(lacking)}: it has {', '.join(names) or 'none'}; {remedy}")


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the non-blank lines of a text file, with their locations."""
    with readable(path), path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield line.rstrip("\r\n"), f"{path.name}, line {number}"


def parsed(text: str, where: str) -> Any:
    """Parse a text as JSON."""
    try:
        return load_json(text)
    except ValueError as error:
        raise BadInput(f"{where}: this is not JSON ({error})") from error


def row_values(row: object, where: str) -> object:
    """Return the values of a row by column, or the error of a row that cannot be read."""
    try:
        return parsed(row, where) if isinstance(row, str) else row
    except BadInput as error:
        return error


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    with readable(path):
        return parsed(read_text(path), str(path))


@contextmanager
def format_errors(where: str) -> Iterator[None]:
    """Convert the errors of Python that a file with another layout causes to ``BadInput``."""
    try:
        yield
    except NibtError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{where} does not have the expected layout: {what}") from error


def natural(name: str) -> list[str | int]:
    """Return a key that sorts names in natural order, so that val_2 comes before val_10."""
    return [int(piece) if place % 2 else piece for place, piece in enumerate(re.split("([0-9]+)", name))]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Convert the errors of reading a file to ``BadInput``."""
    try:
        check_regular(path)
        yield
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8 ({error}): save it in UTF-8") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error


def existing(patterns: Iterable[str | os.PathLike]) -> list[Path]:
    """Return the files and folders that patterns expand to."""
    paths = [Path(name).expanduser() for pattern in patterns for name in expanded(os.fspath(pattern))]
    for path in paths:
        if not path.exists():
            raise BadInput(f"there are no pairs in {str(path)!r}: no such file or folder")
    return paths


def named_paths(names: str | Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files of a name."""
    paths = existing(separated(names))
    if len(paths) == 1 and paths[0].is_dir():
        paths = files_in(paths[0], endings)
        if not paths:
            raise BadInput(f"{str(names)!r} has no {' or '.join(endings)} files")
    return paths


def separated(names: object) -> list[Any]:
    """Return the names that ``joined`` has joined; anything else than a text is one name."""
    return names.split(_SEPARATOR) if isinstance(names, str) else [names]


def joined(paths: Sequence[str | os.PathLike[str]]) -> str:
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
    if os.path.exists(pattern):
        yield pattern
        return

    texts = _BRACE.split(pattern)[::2]
    choices = list(map(_choices, _BRACE.findall(pattern)))
    if math.prod(map(len, choices)) > _MOST_NAMES:
        raise BadOption(f"{pattern!r:.100} must stand for at most {_MOST_NAMES:,} files: give a narrower pattern")

    for chosen in itertools.product(*choices):
        yield texts[0] + "".join(map("".join, zip(chosen, texts[1:], strict=True)))


def _choices(text: str) -> list[str]:
    first, dots, end = text.partition("..")
    if not (dots and first.isdecimal() and end.isdecimal() and len(text) < 40):
        return text.split(",")
    last = min(int(end), int(first) + _MOST_NAMES)  # too many are counted, not created
    return [str(number).zfill(len(first)) for number in range(int(first), last + 1)]


def require_one_of(option: str, value: str | None, names: list[str]) -> str:
    """Return the value of an option that names a part of a file, such as a split or a column, if it is there."""
    if value not in names:
        raise BadOption(f"{option} must be one of {', '.join(names)} (got {value!r})")
    return value
