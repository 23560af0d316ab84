"""Tables, lists and JSON files of data sets, read so that what is wrong with one is said with its name and line."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nibt.errors import BadInput, BadOption, NibtError


def table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, str], str]]:
    """The rows of a CSV file, or of a TSV file where its name says so, each with its place (``captions.txt, line 2``).

    Raises:
        BadInput: A column is lacking, a row has more or fewer fields than the heading, or the file is broken.

    """
    for row, where in table_rows(path, columns):
        if isinstance(row, BadInput):
            raise row
        yield row, where


def table_rows(
    path: Path, columns: tuple[str, ...], remedy: str = ""
) -> Iterator[tuple[dict[str, str] | BadInput, str]]:
    """The same; a row with more or fewer fields than the heading is given as the error that it is.

    ``remedy`` says how other columns are chosen, where they can be.

    Raises:
        BadOption: A column is lacking that can be chosen.
        BadInput: A column is lacking, or the file is broken.
    """
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        heading = [name.strip() for name in next(reader, [])]
        double = next((name for name in columns if heading.count(name) > 1), None)
        if double is not None:
            raise BadInput(f"{path} has {heading.count(double)} columns {double!r}: rename or remove all but one")
        lacking = [name for name in columns if name not in heading]
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
                message = f"expected {len(heading)} fields (got {len(fields)}); put texts that hold the separator in "
                yield BadInput(f"{where}: {message}double quotes"), where


def missing_columns(path: Path, lacking: Sequence[str], names: Sequence[str], remedy: str) -> BadOption:
    """The error that says which columns a table has instead, and how they are chosen."""
    return BadOption(f"{path} has no column {', '.join(lacking)}: it has {', '.join(names) or 'none'}; {remedy}")


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file that are not blank, each with its place.

    Raises:
        BadInput: The file cannot be read.

    """
    with _readable(path), path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield line.rstrip("\r\n"), f"{path.name}, line {number}"


def parsed(text: str, where: str) -> Any:
    """What a JSON text holds.

    Raises:
        BadInput: It is no JSON.

    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: this is not JSON ({error})") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        BadInput: It cannot be read, or is no JSON.

    """
    with _readable(path):
        return parsed(path.read_text(encoding="utf-8-sig"), str(path))


@contextmanager
def format_errors(where: str) -> Iterator[None]:
    """Turn what Python raises on a file that is laid out in another way into one clear error."""
    try:
        yield
    except NibtError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"{error} is lacking" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{where} is not laid out as expected: {what}") from error


def natural(name: str) -> list[str | int]:
    """A key that sorts names with their numbers in order, so that val_2 comes before val_10, on every system."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", name))]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8: save it so ({error})") from error
    except csv.Error as error:
        raise BadInput(f"{path} is a broken table ({error})") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
