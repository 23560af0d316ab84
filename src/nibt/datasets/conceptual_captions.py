"""Conceptual Captions as a table with the columns ``caption`` and ``file_path``.

P. Sharma, N. Ding, S. Goodman, R. Soricut, Conceptual Captions: A Cleaned, Hypernymed, Image Alt-text Dataset For
Automatic Image Captioning, ACL 2018.
"""

from dataclasses import dataclass

from nibt.datasets._files import lines, table
from nibt.datasets._local import LocalDataset, images_folder
from nibt.datasets.base import Record
from nibt.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class ConceptualCaptions(LocalDataset):
    """The pairs of a table, in its order.

    Paths are relative to the folder or to its ``images``, or absolute. The official lists of captions and URLs are
    rejected, since they have no images.

    Attributes:
        table: The name of the table, if the folder has several.
    """

    title = "Conceptual Captions"
    layout = (
        "a .csv or .tsv table with the columns caption and file_path, and its images in images/ or in the same folder"
    )
    home = (
        "ai.google.com/research/ConceptualCaptions has captions with the URLs of the images; download the images, for "
        "instance with img2dataset, and write the table"
    )
    table: str | None = None

    def read_records(self) -> list[Record]:
        path = self.the_table(self.table, "*.csv", "*.tsv")
        first, _ = next(lines(path), ("", ""))
        if first.rpartition("\t")[2].strip().startswith(("http://", "https://")):
            raise BadInput(
                f"{path} is the official list of captions and URLs, which names no files: download the images, for "
                "instance with img2dataset, and write a table with the columns caption and file_path"
            )
        rows = [
            (row["file_path"], row["caption"].strip(), where) for row, where in table(path, ("caption", "file_path"))
        ]
        folder = images_folder(self.root, rows[0][0] if rows else "")
        return [Record((caption,), str(folder / name), where) for name, caption, where in rows]
