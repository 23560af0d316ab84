"""Rows of a data set that the package ``datasets`` saved to disk; they stay there until each is wanted."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from nibt.datasets.hugging_face import saved
from nibt.errors import BadInput, NibtError
from nibt.jobs.sources.base import RawRow, Source, Wanted
from nibt.jobs.sources.tables import Columns, files_hash

_DESCRIPTIONS = ("dataset_dict.json", "dataset_info.json", "state.json")  # what the package writes into its folders


@dataclass(frozen=True)
class HuggingFaceSource(Source):
    """The rows in their order; ``split`` is needed where several were saved together."""

    folder: Path
    columns: Columns
    split: str | None = None

    def facts(self) -> dict[str, Any]:
        described = sorted(path for path in self.folder.rglob("*.json") if path.name in _DESCRIPTIONS)
        return {"kind": "hugging_face", "split": self.split, "fingerprint": files_hash(described)}

    def count(self) -> int:
        return len(self._table)

    def rows(self, wanted: Wanted) -> Iterator[RawRow | None]:
        for row in range(len(self._table)):
            if not wanted(row):
                yield None
                continue
            where = f"row {row}"
            try:
                told: Any = self._table[row]
            except (OSError, SyntaxError, ValueError) as error:
                told = BadInput(f"{where}: it cannot be read ({error})")
            yield self.columns.raw(row, told, self.folder, where)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open table: a worker is sent its rows."""
        return {name: value for name, value in vars(self).items() if name != "_table"}

    @cached_property
    def _table(self) -> Any:
        columns = [(self.columns.image, "image"), (self.columns.caption, "caption")]
        columns += [(self.columns.key, "key")] if self.columns.key else []
        try:
            table = saved(self.folder, self.split, *columns)
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, NibtError):
                raise
            raise BadInput(f"{str(self.folder)!r} was not saved by the package datasets ({error})") from error
        package = import_module("datasets")
        if isinstance(table.features[self.columns.image], package.Image):
            table = table.cast_column(self.columns.image, package.Image(decode=False))
        return table.select_columns(list(dict.fromkeys(self.columns.names)))
