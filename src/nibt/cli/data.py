"""The pairs of an evaluation, by the options of its command."""

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nibt.cli.options import DataOptions, assignments, check_name
from nibt.errors import BadOption, UnknownName
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.data.pair import Pair
    from nibt.datasets.base import Dataset


def open_data(options: DataOptions, count: int) -> "Dataset":
    """Open a data set by its name and folder, ``coco:FOLDER``, or by its files, shuffled by the seed.

    Raises:
        UnknownName: There is no such data set, or it has no such option.
        BadOption: It needs a folder, or takes none; or an option cannot have that value.

    """
    from nibt.datasets._opening import open_files
    from nibt.registry import available, find

    values = assignments(options.data_option or [], option="-D")
    name, _, folder = options.data.partition(":")
    if name not in available("datasets") and os.path.exists(options.data):
        return open_files(options.data, options.seed, values)
    kind = find("datasets", name)
    types = {field.name: str(field.type) for field in fields(kind) if field.init}
    for option in values:
        if option not in types or option in ("folder", "count"):
            raise UnknownName("options", option, set(types) - {"folder", "count"})
    if "folder" in types and not folder:
        raise BadOption(f"the data set {name} is read from a folder: give {name}:FOLDER")
    if "folder" not in types and folder:
        raise BadOption(f"the data set {name} takes no folder (got {folder!r})")
    typed: dict[str, Any] = {key: _value(key, value, types[key]) for key, value in values.items()}
    return kind(folder, **{"seed": options.seed, **typed}) if folder else kind(count=count, **typed)


def _value(name: str, text: str, kind: str) -> Any:
    """The text of an option as a whole number, as true or false, or as it is."""
    if "bool" in kind and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "int" in kind and text.lstrip("-").isdecimal():
        return int(text)
    if "bool" in kind or ("int" in kind and "str" not in kind):
        raise BadOption(f"{name} must be {'true or false' if 'bool' in kind else 'a whole number'} (got {text!r})")
    return text


def read_pairs(data: "Dataset", count: int, quiet: bool) -> "tuple[list[Pair], dict[str, Any]]":
    """Read the first pairs, and return them with the record that results store of them."""
    from nibt.cli.progress import shown
    from nibt.data.pair import pairs_hash

    pairs: list[Pair] = []
    count = min(count, len(data))
    with shown("reading pairs", quiet, count) as on_progress:
        for item in range(count):
            pairs.append(data[item])
            on_progress(Progress(len(pairs)))
    return pairs, {**data.record(), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}


def check_methods(names: list[str]) -> None:
    """Refuse a mistyped method before a model is loaded.

    Raises:
        UnknownName: There is no such method.

    """
    for name in names:
        check_name("methods", name.partition(":")[0])
