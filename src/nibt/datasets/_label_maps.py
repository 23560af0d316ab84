"""Data sets with label images, whose pixels hold the number of a label or of an object."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nibt.data.images import open_image
from nibt.datasets._captions import photo_of
from nibt.datasets._files import lines, natural
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import ObjectAnnotation, Record, Wanted
from nibt.errors import BadInput
from nibt.io import short_digest

BACKGROUND = "background"
"""The label of pixels without an object. It is not named, and no object, unless an image has no other label."""
_INVALID = -2


class LabelMask(NamedTuple):
    """The pixels with a number in a label image, whose path is relative to the folder of the data set."""

    path: str
    number: int


class LabelFiles(LocalDataset):
    """Base class of data sets with label images."""

    @abstractmethod
    def numbers(self, pixels: np.ndarray, where: str) -> np.ndarray:
        """Return the number of each pixel, (height, width), from the pixels of a label image."""

    def read_numbers(self, path: str, size: tuple[int, int] | None, where: str) -> np.ndarray:
        """Read the number of each pixel, (height, width), from a label image, which must have the size of the image."""
        file = self.root / path
        try:
            pixels = _read_pixels(file, file.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise BadInput(f"{file} is missing or damaged ({error}): use the published file") from error

        if size is not None and pixels.shape[:2] != size[::-1]:
            expected, got = (" x ".join(map(str, sides)) for sides in (size, pixels.shape[1::-1]))
            raise BadInput(f"{where}: {file} must have the size of the image, {expected} (got {got})")
        return self.numbers(pixels, f"{where}: {file}")

    def mask(self, annotation: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        if annotation.outline is None:
            return None
        return self.read_numbers(annotation.outline.path, size, where) == annotation.outline.number

    def content(self, item: int) -> str:
        """Return a text that identifies the content of a pair, with the label images, which annotations only name."""
        outlines = (annotation.outline for annotation in self.entries[item].annotations)
        paths = dict.fromkeys(self.root / outline.path for outline in outlines if outline is not None)
        digests = (short_digest(path) if path.is_file() else "" for path in paths)
        return f"{super().content(item)} {' '.join(digests)}"


class LabelImages(LabelFiles):
    """Base class of data sets whose objects are outlined in label images, with the numbers 0 to ``largest``."""

    @property
    def largest(self) -> int:
        return 254  # 255 marks pixels that are ignored

    def numbers(self, pixels: np.ndarray, where: str) -> np.ndarray:
        if pixels.ndim == 2:
            numbers = pixels
            ignored = 255
        else:
            numbers = pixels[..., 0] + 256 * pixels[..., 1]
            ignored = 1000

        numbers = np.where(numbers == ignored, 0, numbers)
        if numbers.max() > self.largest:
            raise BadInput(f"{where} must have the numbers 0 to {self.largest} (got {numbers.max()})")
        return numbers


@lru_cache(maxsize=1)
def _read_pixels(path: Path, modified: int) -> np.ndarray:
    """Read the pixels of a label image. They are kept for the other objects of an image."""
    with open_image(path, str(path)) as image:
        packed = [
            rawmode for *_, rawmode in getattr(image, "tile", ()) if image.mode == "L" and rawmode in ("L;2", "L;4")
        ]
        if image.mode not in ("P", "L", "RGB", "RGBA") or packed:  # Pillow would stretch gray values of fewer bits
            raise BadInput(f"expected 8 bits per channel, got the mode {(packed or [image.mode])[0]}")
        return np.array(image).astype(int)


class Places(NamedTuple):
    """The folders of images (``.jpg``) and label images, the ending of these, and the list of names, if any."""

    images: Path
    maps: Path
    ending: str = ".png"
    listed: Path | None = None


@dataclass(frozen=True, kw_only=True)
class LabelMaps(LabelFiles):
    """Base class of data sets for semantic segmentation: a pair for each image, with its label map."""

    @abstractmethod
    def places(self) -> Places:
        """Find the files."""

    @abstractmethod
    def names(self) -> dict[int, str]:
        """Return the label of each number in the label images, in the order of the labels."""

    @property
    def ignored(self) -> tuple[int, ...]:
        """The numbers of pixels that the annotators ignored."""
        return (255,)

    @cached_property
    def labels(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(self._names.values())

    @cached_property
    def entries(self) -> list[Record]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The records with captions and objects, with ``count`` and ``seed`` applied first."""
        return [self._labeled(record) for record in self.chosen_records(self.read_records())]

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        return (None if record is None else self._labeled(record) for record in super().stream(wanted))

    def read_records(self) -> list[Record]:
        images, maps, ending, listed = self._places
        if listed is not None:
            names = [line.split()[0] for line, _ in lines(listed)]
        else:  # an image without a label image, and a label image without an image, are errors of their pair
            paths = *images.glob("*.jpg"), *maps.glob(f"*{ending}")
            names = sorted({path.name.removesuffix(ending).removesuffix(".jpg") for path in paths}, key=natural)

        table = (listed or images).name
        return [Record(image=str(images / f"{name}.jpg"), where=f"{table}, image {name}") for name in names]

    def label_map(self, record: Record, size: tuple[int, int]) -> np.ndarray | None:
        return self.read_numbers(record.annotations[0].outline.path, size, record.where)

    def numbers(self, pixels: np.ndarray, where: str) -> np.ndarray:
        """Return the position of the label of each pixel, -1 where the annotators ignored it."""
        if pixels.ndim != 2:
            raise BadInput(f"{where} must have one channel with the numbers of labels (got {pixels.shape[2]} channels)")

        positions = self._positions[pixels]
        if (positions == _INVALID).any():
            valid = _spans(np.nonzero(self._positions != _INVALID)[0])
            got = pixels[positions == _INVALID].max()
            raise BadInput(f"{where} must have the numbers {valid} (got {got})")
        return positions

    @cached_property
    def _places(self) -> Places:
        places = self.places()
        for path in (places.listed, places.images, places.maps):
            if path is not None and not path.exists():
                raise self.lacking(Path(os.path.relpath(path, self.root)).as_posix())
        return places

    @cached_property
    def _names(self) -> dict[int, str]:
        return self.names()

    @cached_property
    def _positions(self) -> np.ndarray:
        """The position of the label of each number from 0 to 255."""
        positions = np.full(256, _INVALID)
        positions[list(self.ignored)] = -1
        positions[list(self._names)] = np.arange(len(self._names))
        return positions

    def _labeled(self, record: Record) -> Record:
        """Return a record with its caption and the labels of its image as objects."""
        label_image = self._places.maps / f"{Path(str(record.image)).stem}{self._places.ending}"
        path = label_image.relative_to(self.root).as_posix()
        try:
            positions = self.read_numbers(path, None, record.where)
        except BadInput as error:
            if self.strict:
                raise
            return Record.of_error(error, record.row, record.where)

        counts = np.bincount(positions[positions >= 0], minlength=len(self.labels))
        present = [int(position) for position in np.nonzero(counts)[0]]
        objects = [position for position in present if self.labels[position] != BACKGROUND]
        label = max(objects, key=lambda position: counts[position], default=None)
        caption, spans = ("a photo", ()) if label is None else photo_of(self.labels[label])
        annotations = tuple(
            ObjectAnnotation(self.labels[position], None, spans if position == label else (), LabelMask(path, position))
            for position in objects or present
        )
        named = "" if label is None else self.labels[label]
        return replace(record, captions=(caption,), annotations=annotations, label=named)


def _spans(numbers: np.ndarray) -> str:
    """Return increasing numbers in words.

    >>> _spans(np.array([0, 1, 2, 7, 255]))
    '0 to 2, 7, 255'
    """
    runs = np.split(numbers, np.nonzero(np.diff(numbers) > 1)[0] + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


_WORDS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}


def in_words(name: str) -> str:
    """Return the name of a kind in plain words."""
    return _WORDS.get(name, name)
