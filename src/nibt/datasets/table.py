"""Tables (.csv, .tsv or .jsonl) with columns of images and captions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nibt.datasets._table import TextTable
from nibt.datasets.base import Record
from nibt.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Table(TextTable):
    """The rows of a CSV or TSV file, or of a file with a JSON object per line. ``folder`` is the path of the file.

    It has no objects: a table with the columns ``mask`` or ``boxes`` is refused. Other columns are ignored.
    """

    @property
    def table(self) -> Path:
        return self.root

    @property
    def images(self) -> Path:
        return self.root.parent

    def row_record(self, row: int, values: Any, folder: Path, where: str) -> Record:
        names = values if isinstance(values, dict) else ()
        objects = [name for name in ("mask", "boxes") if name in names and name not in self.columns]
        if objects:
            raise BadInput(
                f"{where}: {objects[0]} is read only if you give the folder of the table, in which it must be named "
                f"pairs{self.root.suffix}"
            )
        return super().row_record(row, values, folder, where)


PLUGIN = Table
