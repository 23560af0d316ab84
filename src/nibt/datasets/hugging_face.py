"""Any data set of images and captions that the package ``datasets`` saved to a folder (``save_to_disk``).

Q. Lhoest et al., Datasets: A Community Library for Natural Language Processing, EMNLP 2021.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from nibt.data.images import ImageInput, read_image
from nibt.datasets._captioned import CaptionedDataset
from nibt.datasets._local import Record
from nibt.datasets.base import Dataset
from nibt.errors import BadInput, BadOption, NibtError, Unsupported


@dataclass(frozen=True, kw_only=True)
class HuggingFace(CaptionedDataset):
    """Pairs in the order of the rows.

    ``image`` and ``caption`` are the columns of images and of captions, each of these a text or a list of texts;
    ``split`` is needed where several were saved together. Needs the package ``datasets``: ``pip install 'nibt[data]'``.
    """

    about = "a data set that the package datasets saved to disk, with a column of images and one of captions"
    title = "A data set saved by the package datasets"
    layout = "what save_to_disk of the package datasets writes (dataset_info.json, state.json and Arrow files)"
    home = "load it once with the package datasets, and call its save_to_disk"
    image: str = "image"
    caption: str = "caption"
    split: str | None = None

    @cached_property
    def rows(self) -> Any:
        """The table of the package ``datasets``.

        Raises:
            Unsupported: that package is not installed.
            BadInput: the folder was not saved by it.
            BadOption: there is no such split or column.

        """
        try:
            return saved(self.root, self.split, (self.image, "image"), (self.caption, "caption"))
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, NibtError):
                raise
            raise self.lacking("a saved data set") from error

    def read(self) -> list[Record]:
        captions = self.rows.select_columns([self.caption])[self.caption]
        return [Record(Path(), _texts(told, f"row {row}"), f"row {row}") for row, told in enumerate(captions)]

    def content(self, item: int) -> str:
        return Dataset.content(self, item)  # images are in the table, not in files

    def load_image(self, entry: Record) -> ImageInput:
        where = f"{self.folder}, {entry.where}"
        try:
            value = self.rows[int(entry.where.removeprefix("row "))][self.image]
        except (OSError, SyntaxError, ValueError) as error:
            raise BadInput(f"{where}: the image is missing or broken ({error})") from error
        if value is None:
            raise BadInput(f"{where}: there is no image")
        try:
            return replace(read_image(value), source=where)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error

    def missing(self) -> str:
        return ""  # they are in the file itself, or are known to the package alone


def saved(folder: Path, split: str | None, *columns: tuple[str, str]) -> Any:
    """The table of the package ``datasets`` in a folder, mapped, not read; it has the columns, each with the name of
    the option that chose it.

    Raises:
        Unsupported: that package is not installed.
        BadOption: there is no such split or column.

    """
    try:
        package = import_module("datasets")
    except ImportError as error:
        raise Unsupported("this data set needs the package datasets: pip install 'nibt[data]'") from error
    found = package.load_from_disk(str(folder))
    if isinstance(found, dict):  # a DatasetDict is one
        found = found[_known("split", split, list(found))]
    elif split is not None:
        raise BadOption(f"the data set was saved without splits: leave split out (got {split!r})")
    for value, option in columns:
        _known(option, value, found.column_names)
    return found


def _known(option: str, value: str | None, names: list[str]) -> str:
    if value not in names:
        raise BadOption(f"{option} must be one of {', '.join(names)} (got {value!r})")
    return value


def _texts(told: Any, where: str) -> tuple[str, ...]:
    captions = tuple(told) if isinstance(told, list | tuple) else (told,)
    if not captions or not all(isinstance(caption, str) for caption in captions):
        raise BadInput(f"{where}: a caption must be a text, or a list of texts (got {told!r})")
    return captions


PLUGIN = HuggingFace
