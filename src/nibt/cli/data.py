"""Reading of the pairs of an evaluation from the options of a command."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nibt.cli.options import DataOptions, assignments
from nibt.cli.progress import show_progress
from nibt.errors import BadOption
from nibt.options import Keywords
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.data.pair import Pair
    from nibt.datasets.base import Dataset


def open_data(options: DataOptions, count: int) -> "Dataset":
    """Open a data set by its name and folder, such as ``coco:FOLDER``, or by its files, shuffled with the seed."""
    from nibt.datasets._opening import open_dataset, option_types
    from nibt.models._loading import embedded
    from nibt.registry import available, find

    values: Keywords = dict(assignments(options.data_option or [], option="-D"))
    name = options.data.partition(":")[0]
    is_path = name not in available("datasets") and (os.path.exists(options.data) or Path(options.data).suffix != "")
    if not is_path and name not in available("datasets") and (name in embedded() or "/" in name):
        raise BadOption(f"there is no data set or file {options.data!r}: the model is given with -m")
    types = {} if is_path else option_types(find("datasets", name))
    for option in ("folder", "count", "options"):
        if option in values:
            raise BadOption(
                f"-D cannot set {option}: give the folder as {name}:FOLDER, and the number of pairs as --count"
            )
    is_generated = not is_path and "folder" not in types
    return open_dataset(options.data, ({"count": count} if is_generated else {"seed": options.seed}) | values)


def read_pairs(data: "Dataset", count: int, quiet: bool) -> "tuple[list[Pair], Keywords]":
    """Read the first ``count`` pairs, and return them with the record of the data set for results."""
    from nibt.data.pair import pairs_hash

    pairs: list[Pair] = []
    count = min(count, len(data))
    with show_progress("reading pairs", quiet, count) as on_progress:
        for item in range(count):
            pairs.append(data[item])
            on_progress(Progress(len(pairs)))
    return pairs, {**data.record(), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}
