"""Data sets of tables, whose rows name an image and a caption."""

import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nibt.data import parquet
from nibt.data.images import SAMPLE
from nibt.datasets._files import format_errors
from nibt.datasets._records import REMEDY, RecordDataset
from nibt.datasets.base import FilePart, ImageLocation, Record
from nibt.errors import BadInput
from nibt.records import JsonObject

_MESSAGES = re.compile(r"\[\s*\{\s*['\"](role|content)['\"]\s*:")  # of a conversation


@dataclass(frozen=True, kw_only=True)
class TableDataset(RecordDataset):
    """Base class of data sets in tables.

    Attributes:
        image: The column of images.
        caption: The column of captions.
        key: The column with the user's identifiers of rows.
        prompt: The column of prompts of a generator, which take the place of captions.
        answer: The column of answers to the prompts, where an empty one is not known; None without answers.
        against: The column of the captions or images that the pairs are compared with, named ``against`` or
            ``against_image``; None without such a column.
    """

    image: str = "image"
    caption: str = "caption"
    key: str | None = None
    prompt: str | None = field(default=None, repr=False)
    answer: str | None = field(default=None, repr=False)
    against: str | None = field(default=None, repr=False)

    @property
    def has_prompts(self) -> bool:
        return self.prompt is not None

    @property
    def compares(self) -> bool:
        return self.against is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.image, self.prompt or self.caption, *filter(None, (self.key, self.answer, self.against)))

    def record(self) -> JsonObject:
        # the columns of prompts are no fields of the record, since pairs have none
        columns = {"prompt": self.prompt, "answer": self.answer}
        return {**super().record(), **{name: column for name, column in columns.items() if column not in (None, name)}}

    @abstractmethod
    def column_names(self) -> Sequence[str]:
        """Return the names of all columns; those of a file of JSON lines are the keys of its first row."""

    def refuse_objects(self, names: Iterable[str], where: str, folder: str = "a folder with pairs.jsonl") -> None:
        """Raise an error for columns of objects, which would be ignored: only a ``folder`` has them."""
        objects = [name for name in ("mask", "boxes", "objects") if name in names and name not in self.columns]
        if objects:
            raise BadInput(
                f"{where}: {objects[0]} is read only if you give {folder}: write one, as docs/reference/datasets.md "
                "shows, or remove the column"
            )

    def row_record(self, row: int, values: object, folder: Path, where: str) -> Record:
        """Build the record of a row; a row that cannot be read gives a record with its error."""
        if isinstance(values, BadInput):
            return Record.of_error(values, row, where)
        if not isinstance(values, dict):
            error = BadInput(f"{where} must be an object with {' and '.join(self.columns)} (got {values!r:.60})")
            return Record.of_error(error, row, where)

        key = ""
        try:
            with format_errors(where):
                key = str(values[self.key]) if self.key else ""
                name, location = image_location(values[self.image], folder, row)
                name_of_text, takes_first = (
                    "prompt" if self.prompt else "caption",
                    getattr(self, "choice", "") == "first",
                )
                text = caption_text(values[self.prompt or self.caption], name_of_text, takes_first)
                value = values.get(self.answer) if self.answer else None
                answer = None if value in (None, "") else caption_text(value, "answer")
                against = self._compared(values[self.against], folder, row) if self.against else None
                return Record((text,), location, where, row, name, key, answer, against)
        except BadInput as error:
            return Record.of_error(error, row, where, key)

    def _compared(self, value: object, folder: Path, row: int) -> Record:
        """Return the record of the caption or the image that a pair is compared with."""
        if self.against == "against":
            if value in (None, "") or (isinstance(value, str) and not value.strip()):
                raise BadInput("the column against must have a caption (got nothing): give one in each row")
            return Record((caption_text(value, "against"),))
        name, location = image_location(value, folder, row, "against_image")
        return Record(image=location, name=name)


def image_location(value: object, folder: Path, row: int, column: str = "image") -> tuple[str, ImageLocation]:
    """Return the name and the location of an image."""
    if isinstance(value, dict) and {"bytes", "path"} & set(value):
        if value.get("bytes") is not None:
            return value.get("path") or f"row {row}", value["bytes"]
        value = value.get("path")

    if isinstance(value, bytes):
        return f"row {row}", value
    if not isinstance(value, str) or not value:
        raise BadInput(f"the {column} must be a path or the bytes of a file (got {_type_name(value)})")
    return value, value if value.startswith(SAMPLE) else str(folder / value)


def caption_text(value: object, name: str = "caption", takes_first: bool = False) -> str:
    """Return the caption of a row, or another text; a list of several is refused unless its first is chosen."""
    if name == "prompt" and _MESSAGES.match(str(value)):
        raise BadInput(
            "the prompt must be a text (got the messages of a conversation): explain each conversation by "
            "nibt.explain_answer"
        )

    if isinstance(value, list | tuple) and value:
        if len(value) > 1 and not takes_first:
            raise BadInput(f"the {name} must be one text (got a list of {len(value)}): give each a row of its own")
        value = next(iter(value))

    if not isinstance(value, str):
        raise BadInput(f"the {name} must be a text (got {_type_name(value)})")
    if value != as_utf8(value):
        raise BadInput(f"the {name} must be valid Unicode (got an unpaired surrogate): save it in UTF-8")
    return value


def as_utf8(text: str) -> str:
    """Return a text with characters replaced that UTF-8 cannot encode, which may occur in names of files."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _type_name(value: object) -> str:
    return "nothing" if value in (None, "") else type(value).__name__


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
