"""From what a caller names to a source of rows."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from nibt.datasets._files import natural
from nibt.datasets.base import Dataset
from nibt.errors import BadInput, BadOption
from nibt.jobs.sources.base import Source
from nibt.jobs.sources.dataset import DatasetSource
from nibt.jobs.sources.hugging_face import HuggingFaceSource
from nibt.jobs.sources.image_folder import ImageFolderSource
from nibt.jobs.sources.tables import Columns, ParquetSource, TextTableSource
from nibt.jobs.sources.webdataset import ENDINGS, WebDatasetSource

Pairs: TypeAlias = str | os.PathLike | Dataset | Sequence[str | os.PathLike]
_TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson")
_EXPECTED = "a .csv, .tsv, .jsonl or .parquet file, .tar shards, a folder or a data set"
_BRACE = re.compile(r"\{([^{}]*)\}")


def opened(pairs: Pairs, columns: Columns, split: str | None = None) -> Source:
    """The source of pairs: a table (CSV, TSV, JSON Lines, Parquet), WebDataset shards (a tar, a list of them, or a
    pattern such as ``shards/{000..099}.tar``), a folder of any of these, a folder of images with captions in text
    files, what the package ``datasets`` saved to disk, or a ``Dataset`` of nibt's.

    Raises:
        BadInput: nothing of that kind is there.
        BadOption: only what the package ``datasets`` saved has a split.

    """
    if isinstance(pairs, Dataset):
        source: Source = DatasetSource(pairs)
    else:
        given = [pairs] if isinstance(pairs, str | os.PathLike) else list(pairs)
        if not given or not all(isinstance(one, str | os.PathLike) for one in given):
            raise BadInput(f"pairs must be {_EXPECTED} (got {type(pairs).__name__})")
        source = _of(list(chain.from_iterable(expanded(os.fspath(one)) for one in given)), columns, split)
    if split is not None and not isinstance(source, HuggingFaceSource):
        raise BadOption(f"split is of a data set that the package datasets saved: leave it out (got {split!r})")
    return source


def expanded(pattern: str) -> Iterator[str]:
    """The names that a pattern with braces stands for, unless a file has that name itself.

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


def _of(names: Sequence[str], columns: Columns, split: str | None) -> Source:
    paths = [Path(name).expanduser() for name in names]
    for path in paths:
        if not path.exists():
            raise BadInput(f"there are no pairs in {str(path)!r}: no such file or folder")
    if all(path.name.lower().endswith(ENDINGS) for path in paths):
        return WebDatasetSource(paths, columns)
    if all(path.suffix.lower() == ".parquet" for path in paths):
        return ParquetSource(paths, columns)
    if len(paths) > 1:
        raise BadInput(f"several files must be .tar shards, or .parquet files, all of them (got {names[0]}, ...)")
    (path,) = paths
    if path.is_dir():
        return _of_folder(path, columns, split)
    if path.suffix.lower() in _TEXTS:
        return TextTableSource(path, path.parent, columns)
    raise BadInput(f"{str(path)!r} is of no kind that is read: give {_EXPECTED}")


def _of_folder(folder: Path, columns: Columns, split: str | None) -> Source:
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return HuggingFaceSource(folder, columns, split)
    tables = [folder / name for name in ("pairs.csv", "pairs.jsonl") if (folder / name).is_file()]
    if len(tables) > 1:
        raise BadInput(f"{str(folder)!r} holds both pairs.csv and pairs.jsonl: leave one")
    if tables:
        return _of_data_set(tables[0], columns)
    for endings, kind in ((ENDINGS, WebDatasetSource), ((".parquet",), ParquetSource)):
        found = _named(folder, endings)
        if found:
            return kind(found, columns)
    return ImageFolderSource(folder)


def _of_data_set(path: Path, columns: Columns) -> Source:
    """As the data set ``folder`` has it: the images are in ``images`` or beside the table, where the first one is."""
    plain, images = TextTableSource(path, path.parent, columns), path.parent / "images"
    first: Any = next(plain.rows(lambda row: row == 0), None)
    inside = images.is_dir() and not (first and first.name and (path.parent / first.name).is_file())
    return TextTableSource(path, images, columns) if inside else plain


def _named(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    names = [entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(endings)]
    return [folder / name for name in sorted(names, key=natural) if not name.startswith(".")]
