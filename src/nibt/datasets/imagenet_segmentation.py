"""ImageNet-Segmentation: 4,276 images of 445 synsets with masks, in one MATLAB file.

M. Guillaumin, D. Küttel, V. Ferrari, ImageNet Auto-Annotation with Segmentation Propagation, IJCV 110, 2014.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nibt.data.images import ImageInput, decode_image
from nibt.datasets._files import format_errors
from nibt.datasets._synsets import SynsetDataset, SynsetImage, is_synset, synset_names
from nibt.datasets.base import FilePart, ObjectAnnotation, Record
from nibt.errors import BadInput, import_optional, reason

_FILE = "gtsegs_ijcv.mat"
_IMAGES, _MASKS, _IDS = "value/img", "value/gt", "value/id"
_TRANSPOSED_COLOR = (2, 1, 0)  # MATLAB's arrays are stored by columns


@dataclass(frozen=True, slots=True)
class StoredImage(FilePart):
    """An image of the MATLAB file, by its position from 0."""

    path: Path
    number: int

    def read(self) -> bytes:
        pixels = _read(self.path, _IMAGES, self.number)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.size:
            raise BadInput(
                f"{self.path}: image {self.number + 1} must be 3 x width x height bytes (got {pixels.dtype} "
                f"{' x '.join(map(str, pixels.shape))}): use the published file"
            )
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels.transpose(_TRANSPOSED_COLOR))).save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class ImageNetSegmentation(SynsetDataset):
    """The images of ImageNet-Segmentation, each with the mask of its object, by synset.

    The file is HDF5, which h5py reads. The synset of an image is the start of its id, such as ``n01440764_10026``. With
    ``names="openai"``, all 1,000 synsets of ImageNet would be needed, which this data set does not have.
    """

    title = "ImageNet-Segmentation"
    layout = (
        f"{_FILE}, and the names of the synsets in words.txt, synset_words.txt or LOC_synset_mapping.txt (those of "
        "WordNet, since not all synsets are among the 1,000 of ILSVRC)"
    )
    home = "calvin-vision.net, ImageNet auto-annotation; the names of synsets are a file of ImageNet"

    def read_records(self) -> list[Record]:
        path = self.inside(_FILE)
        names = synset_names(self.inside("words.txt", "synset_words.txt", "LOC_synset_mapping.txt"))
        return self.captioned(_images(path), names)

    def load_image(self, record: Record) -> ImageInput:
        assert isinstance(record.image, StoredImage)
        return decode_image(record.image.read(), record.where)

    def mask(self, annotation: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        pixels = _read(self.inside(_FILE), _MASKS, annotation.outline)
        if pixels.shape != size:
            expected, got = (" x ".join(map(str, sides)) for sides in (size, pixels.shape))
            raise BadInput(f"{where}: the mask must have the size of the image, {expected} (got {got})")
        if not np.isin(pixels, (0, 1)).all():
            raise BadInput(f"{where}: the mask must have the numbers 0 and 1 (got others): use the published file")
        return pixels.T == 1

    def content(self, item: int) -> str:
        """Return a text that identifies the content of a pair, with its mask, which annotations only number."""
        (annotation,) = self.entries[item].annotations
        try:
            mask = _read(self.inside(_FILE), _MASKS, annotation.outline).tobytes()
        except BadInput as error:
            mask = str(error).encode()
        return f"{super().content(item)} {sha256(mask).hexdigest()}"


def _images(path: Path) -> Iterator[SynsetImage]:
    with _opened(path) as file, _stored_errors(str(path)):
        for number, (reference,) in enumerate(file[_IDS][()]):
            identity = "".join(map(chr, np.asarray(file[reference]).ravel()))
            synset = identity.partition("_")[0]
            if not is_synset(synset):
                raise BadInput(f"{path}: the id of image {number + 1} must start with a synset (got {identity!r:.60})")
            yield SynsetImage(synset, StoredImage(path, number), f"{path.name}, image {identity}", outline=number)


def _read(path: Path, group: str, number: int) -> np.ndarray:
    """Read an image or a mask; a mask is inside of a list with one entry."""
    with _opened(path) as file, _stored_errors(f"{path}, image {number + 1}"):
        stored = file[file[group][number, 0]]
        if group == _MASKS:
            stored = file[stored[0, 0]]
        return np.asarray(stored)


@contextmanager
def _stored_errors(where: str) -> Iterator[None]:
    """Convert the errors of a damaged or unusual file to ``BadInput``."""
    try:
        with format_errors(where):
            yield
    except (OSError, RuntimeError, MemoryError, OverflowError) as error:
        raise BadInput(f"{where} cannot be read ({reason(error)}): use the published file") from error


def _opened(path: Path) -> Any:
    """Open the MATLAB file."""
    h5py = import_optional("h5py", f"{path} needs h5py", "data")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise BadInput(f"{path} is no HDF5 file, or damaged ({reason(error)}): use the published file") from error
