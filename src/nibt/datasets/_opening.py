"""Opening of data sets by a registered name with a folder, or by files."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from nibt.datasets._paths import SHARDS, existing, files_in, joined
from nibt.datasets._table import SUFFIXES
from nibt.datasets.base import Dataset
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.registry import available, find

Pairs: TypeAlias = str | os.PathLike | Dataset | Sequence[str | os.PathLike]
_EXPECTED = "a .csv, .tsv, .jsonl or .parquet file, .tar shards, a folder or a data set (NAME:FOLDER)"


def open_pairs(
    pairs: Pairs, image: str = "image", caption: str = "caption", key: str | None = None, split: str | None = None
) -> Dataset:
    """Open the data set of files, of a folder, or of a registered name."""
    if isinstance(pairs, Dataset):
        data: Dataset = pairs
    else:
        names = [pairs] if isinstance(pairs, str) or not isinstance(pairs, Iterable) else list(pairs)
        if not names or not all(isinstance(name, str | os.PathLike) for name in names):
            raise BadInput(f"pairs must be {_EXPECTED} (got {type(pairs).__name__})")
        columns = {"image": image, "caption": caption, "key": key}
        data = _registered(names) or _open(names, columns, split)
    if split is not None and data.name != "hugging_face":
        raise BadOption(f"split can only be used with a data set that the package datasets saved (got {split!r})")
    return data


def open_files(path: str, seed: int | None, options: Mapping[str, str]) -> Dataset:
    """Open the pairs of a file or a folder, shuffled by a seed."""
    names = ("image", "caption", "key", "split")
    for name in options:
        if name not in names:
            raise UnknownName("options", name, names)
    data = open_pairs(path, **options)  # pyright: ignore[reportArgumentType]
    return replace(data, seed=seed)  # pyright: ignore[reportCallIssue]


def _registered(names: Sequence[Any]) -> Dataset | None:
    """Return the data set of ``NAME:FOLDER``, or of ``NAME`` if it needs no folder; None for other names."""
    name, colon, folder = os.fspath(names[0]).partition(":")
    if len(names) > 1 or name not in available("datasets") or os.path.exists(names[0]):
        return None
    dataset_class = find("datasets", name)
    if not folder and "folder" in {field.name for field in fields(dataset_class)}:
        raise BadOption(f"the data set {name} needs its folder: give {name}:FOLDER")
    if not colon:
        return dataset_class()
    lenient = {"strict": False} if "strict" in {field.name for field in fields(dataset_class)} else {}
    return dataset_class(folder, **lenient)


def _open(names: Sequence[Any], columns: Mapping[str, str | None], split: str | None) -> Dataset:
    paths = existing(names)
    if all(path.name.lower().endswith(SHARDS) for path in paths):
        return _webdataset(joined(paths), columns)
    if all(path.suffix.lower() == ".parquet" for path in paths):
        return find("datasets", "parquet")(joined(paths), **columns)
    if len(paths) > 1:
        raise BadInput(f"several files must be all .tar shards or all .parquet files (got {paths[0]}, ...)")
    (path,) = paths
    if path.is_dir():
        return _open_folder(path, columns, split)
    if path.suffix.lower() in SUFFIXES:
        return find("datasets", "table")(path, **columns)
    raise BadInput(f"{str(path)!r} is of an unknown kind: give {_EXPECTED}")


def _open_folder(folder: Path, columns: Mapping[str, str | None], split: str | None) -> Dataset:
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return find("datasets", "hugging_face")(folder, split=split, strict=False, **columns)
    if any((folder / name).is_file() for name in ("pairs.csv", "pairs.jsonl")):
        return find("datasets", "folder")(folder, strict=False, **columns)
    if files_in(folder, SHARDS):
        return _webdataset(str(folder), columns)
    if files_in(folder, (".parquet",)):
        return find("datasets", "parquet")(folder, **columns)
    return find("datasets", "image_folder")(folder)


def _webdataset(names: str, columns: Mapping[str, str | None]) -> Dataset:
    return find("datasets", "webdataset")(names, image=columns["image"], caption=columns["caption"])
