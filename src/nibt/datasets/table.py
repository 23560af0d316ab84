"""Tables (.csv, .tsv or .jsonl) with columns of images and captions."""

from dataclasses import dataclass
from pathlib import Path

from nibt.datasets._table import TextTable


@dataclass(frozen=True, kw_only=True)
class Table(TextTable):
    """The rows of a CSV or TSV file, or of a file with a JSON object per line. ``folder`` is the path of the file."""

    @property
    def table(self) -> Path:
        return self.root

    @property
    def images(self) -> Path:
        return self.root.parent


PLUGIN = Table
