"""The rows of a split in Parquet or Arrow files, by their positions, as the hub and the package datasets store them."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from nibt.data import parquet
from nibt.datasets._files import natural
from nibt.datasets._records import REMEDY, split_files
from nibt.datasets._table import TableCell
from nibt.errors import BadInput, BadOption
from nibt.records import JsonObject

_NUMBERED = re.compile(r"-\d{5}-of-\d{5}.*")  # what follows the name of a split in the name of a file
_WITHOUT_NAME = "data"  # what a single saved table has in place of the name of a split


@dataclass(frozen=True)
class SplitTable:
    """The rows of several files, numbered from the first row of the first file.

    Attributes:
        paths: The files, in order.
        starts: The position of the first row of each file, and at last the number of rows.
        names: The names of the columns.
    """

    paths: tuple[Path, ...]
    starts: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def open(cls, place: Path, split: str | None, only: bool = False) -> "SplitTable":
        """Open a split of a folder, or a Parquet file.

        Args:
            place: The file, or the folder of a data set of the hub, or of ``save_to_disk``.
            split: The name of the split; None means the only one.
            only: Whether the only split of a folder is opened even if it has another name.

        Raises:
            BadInput: There are no such files, or a file cannot be read.
            BadOption: There are several splits, or none has that name.
        """
        paths = [place] if place.is_file() else split_files(place, _chosen_split(place, split, only))
        schemas = [parquet.table_schema(path, REMEDY) for path in paths]
        starts = tuple(accumulate((count for _, count in schemas), initial=0))
        return cls(tuple(paths), starts, tuple(schemas[0][0]))

    def __len__(self) -> int:
        return self.starts[-1]

    def rows(self, columns: Sequence[str]) -> list[JsonObject]:
        """Return columns of all rows, those of them that the files have."""
        present = [name for name in columns if name in self.names]
        if not present:
            return [{} for _ in range(len(self))]
        return [row for path in self.paths for row in parquet.read_columns(path, present, REMEDY)]

    def cell(self, row: int, column: str) -> TableCell:
        """Return the location of a cell with the bytes of an image."""
        file = bisect_right(self.starts, row) - 1
        return TableCell(self.paths[file], row - self.starts[file], column)

    def value(self, row: int, column: str) -> Any:
        """Read the value of a cell."""
        cell = self.cell(row, column)
        return parquet.read_cell(cell.path, cell.row, column, REMEDY)


def split_names(folder: Path) -> list[str]:
    """Return the names of the splits whose files a folder has; a single saved table has the name ``data``."""
    files = [*folder.glob("*.parquet"), *folder.glob("data/*.parquet"), *folder.glob("*.arrow")]
    names = {_NUMBERED.sub("", path.stem + path.suffix).removesuffix(path.suffix) for path in files}
    names |= {path.parent.name for path in folder.glob("*/data-*.arrow")}
    return sorted(names, key=natural)


def _chosen_split(folder: Path, split: str | None, only: bool) -> str:
    names = split_names(folder)
    if not names:
        raise BadInput(
            f"{str(folder)!r} has no table: it must have .parquet files as on the hub (test-00000-of-00001.parquet), "
            "or be a folder of save_to_disk"
        )

    is_single = len(names) == 1 and (only or split is None or names == [_WITHOUT_NAME])
    if split in names:
        return split
    if is_single:
        return names[0]
    raise BadOption(f"split must be one of {', '.join(names)} for {str(folder)!r} (got {split!r})")
