"""Reading of the pairs of an evaluation from the options of a command."""

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nibt.cli.options import DataOptions, assignments
from nibt.errors import BadOption, UnknownName
from nibt.options import Keywords, field_types, parsed
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.data.pair import Pair
    from nibt.datasets.base import Dataset


def open_data(options: DataOptions, count: int) -> "Dataset":
    """Open a data set by its name and folder, such as ``coco:FOLDER``, or by its files.

    Data sets in files are shuffled with the seed.
    """
    from nibt.datasets._opening import open_files
    from nibt.models._loading import embedded
    from nibt.registry import available, find

    values = assignments(options.data_option or [], option="-D")
    name, _, folder = options.data.partition(":")
    if name not in available("datasets") and (os.path.exists(options.data) or Path(options.data).suffix):
        return open_files(options.data, options.seed, values)
    if name not in available("datasets") and (name in embedded() or "/" in name):
        raise BadOption(f"there is no data set or file {options.data!r}: the model is given with -m")
    dataset_class = find("datasets", name)
    types = _types(dataset_class)
    inside: Keywords = {}
    if name == "grid":  # options that it does not have are those of its pictures' data set
        source = folder.partition(":")[0]
        inside = _types(find("datasets", source)) if source in available("datasets") else {}
        types = {option: text for option, text in types.items() if option != "options"}
    allowed = {**inside, **types}
    for option in values:
        if option not in allowed or option in ("folder", "count"):
            raise UnknownName("options", option, set(allowed) - {"folder", "count"})
    if "folder" in types and not folder:
        needs = "grid needs the data set of its pictures: give grid:NAME" if name == "grid" else ""
        raise BadOption(needs or f"the data set {name} needs its folder: give {name}:FOLDER")
    if "folder" not in types and folder:
        raise BadOption(f"the data set {name} takes no folder (got {folder!r}): give {name}")
    typed: Keywords = {key: parsed(key, value, types[key]) for key, value in values.items() if key in types}
    if inside:
        typed["options"] = {key: parsed(key, value, inside[key]) for key, value in values.items() if key not in types}
    return dataset_class(folder, **{"seed": options.seed, **typed}) if folder else dataset_class(count=count, **typed)


def _types(dataset_class: Any) -> Keywords:
    """Return the types of the options of a data set."""
    return {field.name: field_types(dataset_class)[field.name] for field in fields(dataset_class) if field.init}


def read_pairs(data: "Dataset", count: int, quiet: bool) -> "tuple[list[Pair], Keywords]":
    """Read the first ``count`` pairs, and return them with the record of the data set for results."""
    from nibt.cli.progress import show_progress
    from nibt.data.pair import pairs_hash

    pairs: list[Pair] = []
    count = min(count, len(data))
    with show_progress("reading pairs", quiet, count) as on_progress:
        for item in range(count):
            pairs.append(data[item])
            on_progress(Progress(len(pairs)))
    return pairs, {**data.record(), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}
