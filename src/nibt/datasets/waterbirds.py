"""Waterbirds: birds of land and of water, cut out and placed before land and water."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from nibt.datasets._captions import photo_of
from nibt.datasets._files import table
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput
from nibt.options import OneOf

_SPLITS = ("train", "val", "test")
_BIRDS = ("landbird", "waterbird")
_PLACES = ("land", "water")
_GROUPS = tuple(f"{bird}_on_{place}" for bird in _BIRDS for place in _PLACES)
_FOLDER = "waterbird_complete95_forest2water2"


@dataclass(frozen=True, kw_only=True)
class Waterbirds(LocalDataset, name="waterbirds"):
    """Waterbirds: 11,788 birds, cut out and placed before land or water, in four groups.

    The images of Waterbirds with the caption of their kind of bird, "a photo of a waterbird", in the order of the file.

    The kind of bird is the label, and the key of a pair is its group, such as ``waterbird_on_land``. In the training
    split, 95 % of the birds are before the background of their kind; in the others, half of them are.

    Source:
        Sagawa et al., ICLR 2020

    Attributes:
        split: The split: "train", "val" or "test".
        group: The only group that is read, such as "waterbird_on_land"; None means all four.
    """

    title = "Waterbirds"
    layout = (
        "metadata.csv with the columns img_filename, y, split and place, in the folder or in "
        f"{_FOLDER}/, and the images in the folders that it names (001.Black_footed_Albatross/)"
    )
    home = "github.com/kohpangwei/group_DRO, the authors' repository, which links waterbird_complete95_forest2water2"
    split: Annotated[str, OneOf(_SPLITS)] = "test"
    group: Annotated[str, OneOf(_GROUPS)] | None = None

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return _BIRDS

    def read_records(self) -> list[Record]:
        records = [record for split, record in self._rows() if split == self.split]
        if self.group is not None:
            records = [record for record in records if record.key == self.group]
            if not records:
                raise self.lacking(f"birds of the group {self.group} in the split {self.split}")
        return records

    def _rows(self) -> Iterator[tuple[str, Record]]:
        """Yield the split and the record of each row."""
        path = self.inside("metadata.csv", f"{_FOLDER}/metadata.csv", what="metadata.csv")
        for row, where in table(path, ("img_filename", "y", "split", "place")):
            split = _SPLITS[_number(row, "split", len(_SPLITS), where)]
            bird = _BIRDS[_number(row, "y", len(_BIRDS), where)]
            place = _PLACES[_number(row, "place", len(_PLACES), where)]
            name = row["img_filename"].strip()
            if not name:
                raise BadInput(f"{where}: img_filename must be the path of an image (got nothing)")

            captions = (photo_of(bird).text,)
            yield split, Record(captions, str(path.parent / name), where, key=f"{bird}_on_{place}", label=bird)


def _number(row: dict[str, str], column: str, count: int, where: str) -> int:
    """Return a number of a row, which is the index of one of ``count`` values."""
    known = [str(number) for number in range(count)]
    text = row[column].strip()
    if text not in known:
        raise BadInput(f"{where}: {column} must be one of {', '.join(known)} (got {text!r:.60})")
    return int(text)
