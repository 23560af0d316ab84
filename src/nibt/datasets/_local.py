"""Published data sets in a local folder with a known layout, with one or several captions per image."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nibt.data.images import ImageInput
from nibt.data.objects import Object, Point
from nibt.data.pair import Pair, read_caption
from nibt.datasets._records import RecordDataset, whole_box
from nibt.datasets.base import ImageLocation, Record, Wanted
from nibt.errors import BadInput, BadOption
from nibt.options import OneOf, Range


@dataclass(frozen=True)
class LocalDataset(RecordDataset):
    """Base class of data sets with a known layout. Tables are read at once, and images with their pairs.

    Attributes:
        title: The name of the data set, for messages.
        layout: A description of the files, for messages.
        home: Where to obtain the data set, for messages.
        strict: Whether a record that cannot be read is an error of the whole data set. Otherwise the error is reported
            with its pair.
        square: The number of pixels of both sides to which images are resized first, whatever their shape, so that
            models that crop see all of them; masks follow. None keeps the shapes.
    """

    title: ClassVar[str] = ""
    layout: ClassVar[str] = ""
    home: ClassVar[str] = ""
    _: KW_ONLY
    strict: bool = field(default=True, repr=False)
    square: Annotated[int, Range(1, 10_000)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.root.is_dir():
            raise self._unreadable("is no folder" if self.root.exists() else "does not exist")
        if self.strict:
            len(self.entries)  # reads all records, and fails if a file is missing

    def read(self, record: Record, images: dict[ImageLocation, ImageInput]) -> Pair:
        pair = super().read(record, images)
        return pair if self.square is None else squared(pair, self.square)

    @abstractmethod
    def read_records(self) -> list[Record]:
        """Return all records in their order, without ``count`` and ``seed``."""

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        for row, record in enumerate(self.expanded(self.read_records())):
            yield replace(record, row=row) if wanted(row) else None

    def chosen_records(self, records: list[Record]) -> list[Record]:
        if not records:
            raise self.lacking("pairs")

        for record in records if self.strict else []:
            if record.error:
                raise BadInput(record.error)
            for caption in record.captions:
                try:
                    read_caption(caption)
                except BadInput as error:
                    raise BadInput(f"{record.where}: {error}") from error
        return super().chosen_records(records)

    def expanded(self, records: list[Record]) -> list[Record]:
        """Return a record for each pair."""
        return records

    def lacking(self, what: str) -> BadInput:
        """Return the error that describes what is missing, what is expected, and where to obtain it."""
        return self._unreadable(f"lacks {what}")

    def _unreadable(self, problem: str) -> BadInput:
        return BadInput(
            f"{self.title} cannot be read from {str(self.folder)!r}, which {problem}. The folder must have: "
            f"{self.layout}. Source: {self.home}"
        )

    def inside(self, *names: str, what: str = "") -> Path:
        """Return the path of the first name that exists in the folder."""
        for name in names:
            if (self.root / name).exists():
                return self.root / name
        raise self.lacking(what or " or ".join(names))

    def around(self, inner: str, *names: str, what: str = "") -> Path:
        """Return the path of the first name that exists in the folder, or the folder itself if it has ``inner``."""
        path = self.inside(*names, inner, what=what)
        return self.root if path.name == inner else path

    def the_table(self, name: str | None, *patterns: str) -> Path:
        """Return the path of the table."""
        if name is not None:
            return self.inside(name)

        for pattern in patterns:
            files = sorted(file.name for file in self.root.glob(pattern) if file.is_file())
            if len(files) > 1:
                raise BadInput(f"{str(self.folder)!r} has several tables ({', '.join(files)}): choose one with table=")
            if files:
                return self.root / files[0]

        raise self.lacking(f"a table ({' or '.join(patterns)})")

    def load_image(self, record: Record) -> ImageInput:
        try:
            image = super().load_image(record)
            return replace(image, source=record.image) if isinstance(record.image, str) else image
        except BadInput as error:
            raise BadInput(f"{record.where}: {error}") from error

    def missing(self) -> str:
        absent = [entry for entry in self.entries if isinstance(entry.image, str) and not Path(entry.image).is_file()]
        if not absent:
            return ""
        return str(
            self.lacking(f"{len(absent):,} of {len(self):,} images, such as {absent[0].image} ({absent[0].where})")
        )


def squared(pair: Pair, side: int) -> Pair:
    """Return a pair whose image has both sides of ``side`` pixels: bilinear, and masks by the nearest pixel."""
    across, down = (side / length for length in pair.image.size)
    image = ImageInput(
        pair.image.pil_image.resize((side, side), Image.Resampling.BILINEAR), pair.image.source, pair.image.notes
    )

    def nearest(pixels: np.ndarray) -> np.ndarray:
        rows, columns = (((np.arange(side) + 0.5) * length / side).astype(int) for length in pixels.shape)
        return pixels[rows[:, None], columns]

    def changed(obj: Object) -> Object:
        box = (
            None
            if obj.box is None
            else whole_box(
                (obj.box[0] * across, obj.box[1] * down, obj.box[2] * across, obj.box[3] * down), (side, side), "a box"
            )
        )
        points = tuple(Point(int(x * across), int(y * down), inside) for x, y, inside in obj.points)
        return replace(obj, box=box, mask=None if obj.mask is None else nearest(obj.mask), points=points)

    label_map = None if pair.label_map is None else nearest(pair.label_map)
    return replace(pair, image=image, objects=tuple(map(changed, pair.objects)), label_map=label_map)


def images_folder(root: Path, first: str) -> Path:
    """Return the folder of the images of a table, ``root`` or its ``images``, by the name of the first image."""
    images = root / "images"
    return images if images.is_dir() and not (first and (root / first).is_file()) else root


@dataclass(frozen=True, kw_only=True)
class CaptionedDataset(LocalDataset):
    """Base class of data sets with several captions per image. ``count`` is the number of pairs.

    The paper of NIB uses the best caption. Its code compares the captions of a whole batch with the first image of the
    batch; here, each caption is compared with its own image.

    Attributes:
        choice: The captions that form pairs: "first", "best" (that with the highest score), or "all" (a pair each).
        scorer: For "best", a function of an image and its captions that returns a number for each caption, such as the
            cosines of a model. If several captions have the highest score, the first one is chosen.
    """

    choice: Annotated[str, OneOf(("first", "best", "all"))] = "first"
    scorer: Callable[[ImageInput, Sequence[str]], Tensor | np.ndarray | Sequence[float]] | None = field(
        default=None, repr=False, compare=False
    )
    _best: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.choice == "best") != (self.scorer is not None):
            raise BadOption(
                "choice='best' and scorer must be used together: scorer is a function of an image and its captions "
                "that returns a number for each caption, such as the cosines of a model"
            )
        super().__post_init__()

    def expanded(self, records: list[Record]) -> list[Record]:
        if self.choice != "all":
            return records
        return [replace(record, captions=(caption,)) for record in records for caption in record.captions]

    def caption_of(self, record: Record, image: ImageInput) -> str:
        if self.scorer is None:
            return record.captions[0]

        if record.where not in self._best:  # the scorer is slow, and items may be read several times
            scores = torch.as_tensor(self.scorer(image, record.captions)).flatten()
            if len(scores) != len(record.captions) or scores.isnan().any():
                raise BadInput(
                    f"{record.where}: scorer must return a number for each of {len(record.captions)} captions "
                    f"(got {scores.tolist()})"
                )
            self._best[record.where] = record.captions[scores.tolist().index(scores.max().item())]
        return self._best[record.where]


def texts(value: object, where: str, name: str = "a caption") -> tuple[str, ...]:
    """Return the captions of an image from a text or a list of texts."""
    values = value if isinstance(value, list | tuple) else (value,)
    captions = tuple(caption for caption in values if isinstance(caption, str))
    if not captions or len(captions) < len(values):
        raise BadInput(f"{where}: {name} must be a text, or a list of texts (got {value!r})")
    return captions
