"""MMVP-VLM: pairs of images that CLIP embeds almost alike, each with a statement that is true of it alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nibt.datasets._files import natural, require_one_of, table, table_heading
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput

_FIELDS = 3  # the number of an image, its pattern and its statement, in columns of any name
_FOLDERS = ("MLLM_VLM Images", "MMVP_VLM_Images")  # of the authors' program, and of their page


@dataclass(frozen=True, kw_only=True)
class MMVPVLM(LocalDataset, name="mmvp_vlm"):
    """MMVP-VLM: 135 pairs of images that CLIP embeds almost alike, each with a statement of its own.

    The images of MMVP-VLM with the caption "a photo of" and their statement, in the order of the table.

    Each image is compared with the other one of its pair: a model is right about a caption if the difference of the two
    similarities is positive, and, as the authors count, about a pair if it is right about both captions. The key of a
    row is the number of its image.

    Source:
        Tong et al., CVPR 2024

    Attributes:
        pattern: The only visual pattern that is read, by the name of its folder; None means all nine.
    """

    title = "MMVP-VLM"
    layout = (
        "Questions.csv, whose rows have the number of an image, its visual pattern and its statement, two successive "
        f"rows for a pair, and the images '{_FOLDERS[0]}/PATTERN/1.jpg' and so on"
    )
    home = "the data set MMVP/MMVP_VLM on the Hugging Face hub, which github.com/tsb0601/MMVP links"
    pattern: str | None = None

    @property
    def compares(self) -> bool:
        return True

    def read_records(self) -> list[Record]:
        path = self.inside("Questions.csv")
        folder = self.inside(*_FOLDERS, what=f"the folder '{_FOLDERS[0]}'")
        records = list(_records(path, folder))
        if len(records) % 2:
            raise BadInput(f"{path} must have two rows for each pair of images (got {len(records)} rows)")

        compared = [
            replace(record, against=Record(image=other.image, name=other.name))
            for first, second in zip(records[::2], records[1::2], strict=True)
            for record, other in ((first, second), (second, first))
        ]
        if self.pattern is None:
            return compared

        patterns = {Path(record.name).parent.name for record in compared}
        require_one_of("pattern", self.pattern, sorted(patterns, key=natural))
        return [record for record in compared if Path(record.name).parent.name == self.pattern]


def _records(path: Path, folder: Path) -> Iterator[Record]:
    """Yield the record of each row, which is not compared yet."""
    columns = tuple(table_heading(path)[:_FIELDS])
    if len(columns) < _FIELDS:
        raise BadInput(
            f"{path} must have columns with the number of an image, its visual pattern and its statement (got "
            f"{', '.join(columns) or 'nothing'})"
        )

    for row, where in table(path, columns):
        number, pattern, statement = (row[column].strip() for column in columns)
        if not number.isdecimal() or not statement or Path(pattern).name != pattern or not pattern:
            raise BadInput(
                f"{where}: expected the number of an image, its visual pattern and its statement (got {number!r:.40}, "
                f"{pattern!r:.40} and {statement!r:.40})"
            )
        name = f"{pattern}/{number}.jpg"
        yield Record((f"a photo of {statement}",), str(folder / name), where, name=name, key=number)
