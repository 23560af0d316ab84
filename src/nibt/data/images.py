"""Reading of images.

Every image is converted to an upright RGB image with its tones kept. What the conversion changes, such as transparency
replaced by white, is noted and becomes a warning of the result.
"""

import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nibt.errors import BadInput, NibtError, UnknownName
from nibt.image_files import MOST_PIXELS, open_image, readable, too_large
from nibt.io import load_json, short_digest

_NORMALIZED = 8.0  # normalized values of common models are between -2.8 and 2.8
SAMPLE = "sample:"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".avif", ".jp2", ".ico"}


@dataclass(frozen=True)
class ImageInput:
    """An upright RGB image.

    Attributes:
        pil_image: The image.
        source: Where the image comes from: a path, or a description.
        notes: What was changed when the image was read.
        file_hash: The digest of the image's file; empty without a file.

    """

    pil_image: Image.Image
    source: str
    notes: tuple[str, ...] = ()
    file_hash: str = field(default="", repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """The digest of the image, 16 hexadecimal digits: of its file or, without a file, of its size and pixels."""
        return self.file_hash or sha256(repr(self.pil_image.size).encode() + self.pil_image.tobytes()).hexdigest()[:16]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pil_image.size


@runtime_checkable
class OpenFile(Protocol):
    """A file that is open for reading in binary mode."""

    def read(self, size: int = -1, /) -> Any:
        """Read up to ``size`` bytes."""
        ...


NamedImage: TypeAlias = (  # everything but a string, which may be a caption
    os.PathLike | Image.Image | np.ndarray | Tensor | ImageInput | bytes | bytearray | memoryview | OpenFile
)
ImageSource: TypeAlias = str | NamedImage


def samples() -> list[str]:
    """Return the names of the images that ship with the package; read one with ``sample:NAME``."""
    return sorted(_sample_files())


def sample_captions() -> dict[str, str]:
    """Return the captions of the images that ship with the package, by name."""
    return load_json(files("nibt") / "samples" / "captions.json")


def sample_file(name: str) -> Path:
    """Return the file of an image that ships with the package."""
    by_name = _sample_files()
    if name not in by_name:
        raise UnknownName("samples", name, by_name)
    return by_name[name]


def _sample_files() -> dict[str, Path]:
    folder = Path(str(files("nibt") / "samples"))
    return {file.stem: file for file in folder.iterdir() if file.suffix in (".png", ".jpg")}


def is_image_name(text: str) -> bool:
    """Return whether a text names an image: a file, an address or a sample."""
    return text.startswith(SAMPLE) or is_url(text) or names_image(text) or os.path.isfile(text)


def names_image(text: str) -> bool:
    """Return whether a text has the suffix of an image file."""
    return Path(text).suffix.lower() in _SUFFIXES


def is_url(text: str) -> bool:
    """Return whether a text is a URL, and not the name of a local file.

    Examples:
        >>> is_url("https://example.org/cat.jpg"), is_url("photos/cat.jpg")
        (True, False)

    """
    return bool(re.match(r"(?i)(https?|ftp|s3|gs|hf|data|file):/?/?\S", text)) and not os.path.exists(text)


def read_image(source: ImageSource) -> ImageInput:
    """Read an image."""
    if isinstance(source, ImageInput):
        return source
    if isinstance(source, Image.Image):
        with readable("image in memory"):
            return _upright(source, "image in memory")
    if isinstance(source, Tensor):
        _check_plain(source)
    if isinstance(source, np.ndarray | Tensor):
        item = source[0] if is_batch(source) and len(source) == 1 else source
        container, values = ("tensor", _channels_last(item)) if isinstance(item, Tensor) else ("array", item)
        return _from_array(values, container, tuple(source.shape))
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_image(bytes(source), "bytes")
    if isinstance(source, OpenFile):
        return _from_file(source)
    if isinstance(source, str) and source.startswith(SAMPLE):
        name, path = source, sample_file(source.removeprefix(SAMPLE))
    elif not isinstance(source, str | os.PathLike):
        raise BadInput(
            "an image must be a path, the bytes of a file, an open file, a PIL image, an array or a tensor "
            f"(got {type(source).__name__})"
        )
    elif not os.fspath(source):
        raise BadInput("the path of an image must not be empty (got ''): give the path of one image")
    elif is_url(name := os.fspath(source)):
        raise BadInput(f"an image must be a local file (got the URL {name!r}): download it, and give its path")
    else:
        path = Path(source)
    with open_image(path, name) as image:
        return replace(_upright(image, name), file_hash=short_digest(path))


def image_at(source: str, image_hash: str) -> ImageInput | None:
    """Return the image at a source, or None if it is missing or its hash differs."""
    try:
        image = read_image(source)
    except NibtError:
        return None
    return image if image.digest == image_hash else None


def is_batch(source: Any) -> bool:
    """Return whether a source is a batch of images in one array.

    Tensors have the shape (batch, channel, height, width), arrays (batch, height, width, channel).
    """
    nested = isinstance(source, Tensor) and source.is_nested
    return isinstance(source, np.ndarray | Tensor) and not nested and source.ndim == 4


def _from_file(stream: Any) -> ImageInput:
    name = str(getattr(stream, "name", "") or "open file")
    try:
        data = stream.read()
    except Exception as error:  # an object of the caller
        raise BadInput(f"{name!r} cannot be read ({error})") from error
    if not isinstance(data, bytes):
        raise BadInput(f"{name!r} is open as text: open it in binary mode, as open(path, 'rb')")
    if not data:
        raise BadInput(
            f"{name!r} has no bytes left to read: the file is empty, or was read before; call seek(0) to start again"
        )
    return decode_image(data, name)


def decode_image(data: bytes, name: str) -> ImageInput:
    """Read an image from the bytes of its file."""
    if not data:
        raise BadInput(f"{name!r} is an empty file (0 bytes)")
    with open_image(data, name) as image:
        return replace(_upright(image, name), file_hash=sha256(data).hexdigest()[:16])


def _upright(image: Image.Image, source: str) -> ImageInput:
    if image.width * image.height > MOST_PIXELS:  # before anything is decoded
        raise BadInput(too_large(source, f" ({image.width:,} x {image.height:,})"))
    notes = []
    if getattr(image, "n_frames", 1) > 1:  # an image of the caller stays at its frame
        frame = "the first" if image.tell() == 0 else f"number {image.tell() + 1}"
        notes.append(f"the image has {image.n_frames} frames: {frame} is used")  # pyright: ignore
    image.load()
    rgb, note = _rgb(ImageOps.exif_transpose(image), image.format)
    return ImageInput(rgb, source, (*notes, *note))


def _rgb(image: Image.Image, file_format: str | None) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert an image to RGB with its tones kept: 16 bits are scaled to 8, not clipped."""
    if image.mode.startswith("I") or image.mode == "F":
        return _gray(np.asarray(image), image.mode, file_format), ()
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            white = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(white, layer).convert("RGB"), ("transparent parts were replaced by white",)
        return layer.convert("RGB"), ()
    return image.convert("RGB"), ()


def _gray(values: np.ndarray, mode: str, file_format: str | None) -> Image.Image:
    """Convert a gray image of 16 bits, 32 bits or floats to RGB; those of 32 bits and floats above 1 are 0 to 255."""
    if mode.startswith("I;16") or (mode == "I" and file_format == "PNG"):  # which has at most 16 bits
        values = values.astype(np.float64) / 65535
    top = 255 if mode == "F" and values.max(initial=0) > 1 else None
    return Image.fromarray(_as_bytes(values, f"image of mode {mode}", top)).convert("RGB")


def _as_bytes(values: np.ndarray, source: str, top: int | None = None) -> np.ndarray:
    """Return the bytes of an image: of whole numbers of any width from 0 to 255, or of floats from 0 to 1.

    What wider numbers span is not in the array, and their maximum differs between the frames of a film.
    """
    if values.dtype.kind not in "buif":
        raise BadInput(f"the {source} must have whole numbers or floats (got {values.dtype})")
    top = top or (255 if values.dtype.kind in "ui" else 1)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInput(f"the {source} holds NaN or infinite values")
    if values.min() < 0 or values.max() > top:
        noun = "floats" if values.dtype.kind == "f" else "whole numbers"
        if values.dtype.kind == "f" and -_NORMALIZED < values.min() < 0 and values.max() < _NORMALIZED:
            raise BadInput(
                f"an image of floats must be in [0, {top}] (got {values.min():.5g} to {values.max():.5g}, as after "
                "a mean and a standard deviation were applied): give the image before it is normalized"
            )
        raise BadInput(
            f"an image of {noun} must be in [0, {top}] (got {values.min():.5g} to {values.max():.5g}): scale the values"
        )
    return np.round(values * 255 if top == 1 else values).astype(np.uint8)


def _check_plain(tensor: Tensor) -> None:
    kinds = {"nested": tensor.is_nested, "quantized": tensor.is_quantized, "meta": tensor.is_meta}
    layout = next((name for name, has in kinds.items() if has), "" if tensor.layout == torch.strided else "sparse")
    if layout:
        raise BadInput(f"an image must be a plain tensor with numbers (got a {layout} tensor)")


def _channels_last(tensor: Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    array = plain.float().numpy() if plain.is_floating_point() else plain.numpy()
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array


def _from_array(array: np.ndarray, source: str, shape: tuple[int, ...]) -> ImageInput:
    """Read an image from an array whose last axis has the channels; ``shape`` is that of the caller's."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        first = "(3, height, width)" if source == "tensor" else "(height, width, 3)"
        raise BadInput(f"an image as {source} must have the shape {first} or (height, width) (got {shape})")
    values = _as_bytes(array, source)
    return _upright(Image.fromarray(values[..., 0] if values.ndim == 3 and channels == 1 else values), source)


class Region(NamedTuple):
    """A rectangle on the upright original, in its pixels; it extends past the edges where a model pads."""

    left: float
    top: float
    width: float
    height: float
