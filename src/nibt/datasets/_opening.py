"""Opening of data sets by a registered name with a folder, or by files."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from nibt.datasets._files import SHARDS, existing, files_in, joined
from nibt.datasets._records import SUFFIXES, RecordDataset
from nibt.datasets._table import TableDataset
from nibt.datasets.base import Dataset
from nibt.datasets.lmms_eval import is_sample_log
from nibt.errors import BadInput, BadOption, UnknownName, check_names
from nibt.options import Keywords, field_types, parsed
from nibt.registry import available, find

Pairs: TypeAlias = str | os.PathLike | Dataset | Sequence[str | os.PathLike]
CAPTION = "caption"
PROMPT = "prompt"
ANSWER = "answer"
"""The names of the columns that are read by default."""
AGAINST = ("against", "against_image")
"""The columns of what each pair is compared with: a caption or an image."""
_OF_FILES = ("image", "caption", "prompt", "answer", "key", "split")
"""The options of data in files, which are the names of columns and of a split."""
_ORDER = ("seed", "count")
"""The options of all data: how the pairs are shuffled, and how many are read."""
_OF_CALLS = ("against", "against_image", "against_images", "templates")
"""What is compared with; a column of that name that is not read would seem to be read."""
_EXPECTED = "a .csv, .tsv, .jsonl or .parquet file, .tar shards, a folder or a data set (NAME:FOLDER)"


class FolderMissing(BadOption):
    """A data set in files has no folder."""


def open_pairs(
    pairs: Pairs,
    image: str = "image",
    caption: str = "caption",
    key: str | None = None,
    split: str | None = None,
    options: Keywords | None = None,
) -> Dataset:
    """Open the data set of files, of a folder, or of a registered name; ``options`` are those of a name or a log."""
    if isinstance(pairs, Dataset):
        if options:
            raise BadOption(f"options of a data set in memory are its own (got {', '.join(options)}): leave them out")
        data: Dataset = pairs
    else:
        if getattr(pairs, "ndim", 1) == 0:  # an array without items
            raise BadInput(f"pairs must be {_EXPECTED} (got {pairs!r:.60})")

        names = [pairs] if isinstance(pairs, str) or not isinstance(pairs, Iterable) else list(pairs)
        if not names or not all(isinstance(name, str | os.PathLike) and name != "" for name in names):
            raise BadInput(f"pairs must be {_EXPECTED} (got {pairs!r:.60})")

        columns = {"image": image, "caption": caption, "key": key}
        named = _open_named(names[0], image, split, options or {}) if len(names) == 1 else None
        data = _open_ordered(names, columns, split, options or {}) if named is None else named

    if split is not None and getattr(data, "split", None) != split:
        raise BadOption(f"split can only be used with a data set that has splits (got {split!r})")
    return data


def _open_named(source: str | os.PathLike, image: str, split: str | None, options: Keywords) -> Dataset | None:
    """Open ``NAME`` or ``NAME:FOLDER``; None if the source is a file or folder, whose name comes first."""
    if os.path.exists(source):
        return None

    text = os.fspath(source)
    name = text.partition(":")[0]
    if name not in available("datasets") and not text.isidentifier():
        return None

    # unreadable records are reported with their pairs
    types = option_types(find_dataset(text))
    values: Keywords = {"strict": False} if "strict" in types else {}
    if split is not None and "split" in types:
        values["split"] = split
    if image != "image" and "image" in types:
        values["image"] = image
    return open_dataset(text, {**values, **options})


def open_rows(
    pairs: Pairs,
    prompt: str | None = None,
    answer: str | None = None,
    *,
    image: str = "image",
    caption: str = CAPTION,
    key: str | None = None,
    split: str | None = None,
    options: Keywords | None = None,
) -> Dataset:
    """Open pairs, or the prompts of a generator: a table with a column ``prompt``, and without one of captions."""
    data = open_pairs(pairs, image, caption, key, split, options)
    if isinstance(data, TableDataset):
        return _with_texts(data, prompt or data.prompt, answer or data.answer)
    if prompt or answer:
        raise BadOption(
            f"prompts are read from tables, .csv, .tsv, .jsonl or .parquet (got {prompt or answer!r} for the data "
            f"set {data.name}): write a table with the columns {PROMPT} and {ANSWER}"
        )
    return data


def _with_texts(data: TableDataset, prompt: str | None, answer: str | None) -> TableDataset:
    """Return a table with the columns of its texts: captions with what they are compared with, or prompts."""
    if prompt and data.caption != CAPTION:
        raise BadOption(f"give a column of captions or of prompts, not both (got {data.caption!r} and {prompt!r})")

    names = data.column_names()
    if data.image in (data.caption, prompt):
        raise BadOption(f"one column cannot have both images and texts (got {data.image!r} for both): name two columns")

    has_captions = data.caption != CAPTION or CAPTION in names
    if has_captions and not (prompt or answer):
        data = _with_against(data, names)
    _check_all_read(names, (*data.columns, prompt, answer))

    if prompt is None and not has_captions and PROMPT in names:
        prompt = PROMPT
    if prompt is None and answer:
        raise BadOption(f"a column of answers needs one of prompts (got only {answer!r}): give prompt, too")
    if prompt is None:
        return data
    return replace(data, prompt=prompt, answer=answer or (ANSWER if ANSWER in names else None))


def _with_against(data: TableDataset, names: Sequence[str]) -> TableDataset:
    """Return pairs with the column of what each is compared with, if there is one."""
    compared = [name for name in AGAINST if name in names and name not in data.columns]
    if len(compared) > 1:
        raise BadOption(f"the pairs have the columns {' and '.join(compared)}: leave one of them out")
    return replace(data, against=compared[0] if compared else None)


def _check_all_read(names: Sequence[str], columns: Sequence[str | None]) -> None:
    """Check that no column is ignored whose values seem to be options of the call."""
    unread = [name for name in _OF_CALLS if name in names and name not in columns]
    if unread:
        in_call = "" if unread[0] == "against_image" else "give its value for all rows in the call, or "
        raise BadOption(f"the pairs have a column {unread[0]!r}, which is not read: {in_call}rename the column")


def open_dataset(source: str, options: Keywords) -> Dataset:
    """Open ``NAME``, ``NAME:FOLDER`` or a path with options, among them those of the pictures of a grid."""
    if is_path(source):
        return _open_path(source, options)

    name, _, folder = source.partition(":")
    dataset_class = find_dataset(source)
    types = option_types(dataset_class)
    is_grid = "options" in types  # of the data set of its pictures
    of_pictures: Keywords = {}  # files of pictures have no options
    if is_grid and folder and not os.path.exists(folder):
        of_pictures = option_types(find_dataset(folder))
    check_names("options", options, {**of_pictures, **types})

    values = {option: parsed(option, value, types[option]) for option, value in options.items() if option in types}
    inside = {option: parsed(option, options[option], of_pictures[option]) for option in options if option not in types}
    if inside:
        values["options"] = {**values.get("options", {}), **inside}

    if folder:
        values["folder"] = folder
    _check_folder(name, values, takes_folder="folder" in types, is_grid=is_grid)
    return dataset_class(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def find_dataset(source: str) -> Any:
    """Return the class of the data set in ``NAME`` or ``NAME:FOLDER``."""
    name = source.partition(":")[0]
    if name not in available("datasets") and not os.path.exists(name):
        raise UnknownName("datasets", name, available("datasets"), "There is no file or folder of that name either.")
    return find("datasets", name)


def is_path(source: str) -> bool:
    """Return whether a source is the path of a file or a folder, and not the name of a data set."""
    is_name = source.partition(":")[0] in available("datasets")
    return not is_name and (os.path.exists(source) or Path(source).suffix != "")


def _check_folder(name: str, values: Mapping[str, object], takes_folder: bool, is_grid: bool) -> None:
    """Check that a data set has its folder, if it takes one."""
    has_folder = "folder" in values
    if has_folder and not takes_folder:
        raise BadOption(f"the data set {name} takes no folder (got {values['folder']!r}): give {name}")
    if takes_folder and not has_folder:
        needed = "the data set of its pictures: give grid:NAME" if is_grid else f"its folder: give {name}:FOLDER"
        raise FolderMissing(f"{name} needs {needed}")


def option_types(dataset_class: type[Dataset]) -> Keywords:
    """Return the types of the options of a data set, its folder among them."""
    types = field_types(dataset_class)
    return {
        field.name: types[field.name]
        for field in fields(dataset_class)
        if field.init and not field.name.startswith("_")
    }


def order_of(data: Dataset) -> Keywords:
    """Return which pairs of a data set are read, in which order, as far as it is set."""
    names = [name for name in _ORDER if name in option_types(type(data))]
    return {name: getattr(data, name) for name in names if getattr(data, name) is not None}


def _open_path(path: str, options: Keywords) -> Dataset:
    """Open the pairs of a file or a folder, whose options are its columns, and the number and order of its pairs."""
    check_names("options", options, ("image", "caption", "key", "split", *_ORDER))
    order = {name: value for name, value in options.items() if name in _ORDER}
    return open_pairs(path, **{name: value for name, value in options.items() if name not in _ORDER}, options=order)


def _open_ordered(
    names: Sequence[str | os.PathLike], columns: Mapping[str, str | None], split: str | None, options: Keywords
) -> Dataset:
    """Open files of one kind, or a folder, with the order and the number of its pairs."""
    types = option_types(RecordDataset)
    order = {name: parsed(name, options[name], types[name]) for name in _ORDER if name in options}
    data = _open_files(names, columns, split, {name: options[name] for name in options if name not in order})
    return replace(data, **order) if isinstance(data, RecordDataset) else data


def _open_files(
    names: Sequence[str | os.PathLike], columns: Mapping[str, str | None], split: str | None, options: Keywords
) -> Dataset:
    """Open files of one kind, or a folder; only a log has options."""
    paths = existing(names)
    if len(paths) == 1 and paths[0].suffix.lower() in (".jsonl", ".ndjson") and is_sample_log(paths[0]):
        return open_dataset(f"lmms_eval:{paths[0]}", {"image": columns["image"], "split": split, **options})

    check_names("-D options", options, (*_OF_FILES, *_ORDER))
    if all(path.name.lower().endswith(SHARDS) for path in paths):
        return _webdataset(joined(paths), columns)
    if all(path.suffix.lower() == ".parquet" for path in paths):
        return find("datasets", "parquet")(joined(paths), **columns)
    if len(paths) > 1:
        raise BadInput(f"several files must be all .tar shards or all .parquet files (got {paths[0]}, ...)")

    path = paths[0]
    if path.is_dir():
        return _open_folder(path, columns, split)
    if path.suffix.lower() in SUFFIXES:
        return find("datasets", "table")(path, **columns)
    raise BadInput(f"{str(path)!r} is of an unknown kind: give {_EXPECTED}")


def _open_folder(folder: Path, columns: Mapping[str, str | None], split: str | None) -> Dataset:
    """Open a folder by the files that it has; one of none of these kinds has images in folders."""
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return find("datasets", "hugging_face")(folder, split=split, strict=False, **columns)
    if (folder / "pairs.csv").is_file() or (folder / "pairs.jsonl").is_file():
        return find("datasets", "folder")(folder, strict=False, **columns)
    if files_in(folder, SHARDS):
        return _webdataset(str(folder), columns)
    if files_in(folder, (".parquet",)):
        return find("datasets", "parquet")(folder, **columns)
    return find("datasets", "image_folder")(folder)


def _webdataset(names: str, columns: Mapping[str, str | None]) -> Dataset:
    return find("datasets", "webdataset")(names, image=columns["image"], caption=columns["caption"])
