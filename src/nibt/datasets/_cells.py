"""Images in the cells of Parquet files, and of the Arrow files that the package datasets saves."""

from dataclasses import dataclass
from pathlib import Path

from nibt import parquet
from nibt.datasets._files import natural
from nibt.datasets.base import FilePart
from nibt.errors import BadInput

REMEDY = "replace it by a complete file"


@dataclass(frozen=True, slots=True)
class TableCell(FilePart):
    """A cell of a Parquet or Arrow file with the bytes of an image, or with a mapping that has them as ``bytes``."""

    path: Path
    row: int
    column: str

    def read(self) -> bytes:
        value = parquet.read_cell(self.path, self.row, self.column, REMEDY)
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise BadInput(
                f"{self.path.name}, row {self.row}: {self.column} must have the bytes of an image "
                f"(got {'nothing' if data is None else type(data).__name__})"
            )
        return data


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the Parquet or Arrow files of a split, in natural order of their names."""
    for place, pattern in (
        (folder / "data", f"{split}-*.parquet"),
        (folder, f"{split}-*.parquet"),
        (folder / split, "*.arrow"),
        (folder, f"{split}.parquet"),
        (folder, "data-*.arrow"),
    ):
        files = sorted((path for path in place.glob(pattern) if path.is_file()), key=lambda path: natural(path.name))
        if files:
            return files
    return []
