"""Reading of images.

Every image is converted to an upright RGB image with its tones kept. What the conversion changes, such as transparency
replaced by white, is noted and becomes a warning of the result.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from nibt.data.arrays import _as_bytes, _channels_last, _check_plain, _gray
from nibt.data.window import Window, split_window, windowed, without_window
from nibt.errors import BadInput, NibtError, UnknownName, reason
from nibt.io import WINDOW, check_regular, load_json, open_bytes, short_digest

_ORIENTATION = 0x0112  # the EXIF tag of the orientation
MOST_PIXELS = 89_478_485  # the limit of Pillow, a quarter of a gigabyte as RGB, against decompression bombs
_MOST_BESIDE = 2**24  # pixels of images that are drawn side by side


@contextmanager
def open_image(source: Path | BinaryIO | bytes, name: str) -> Iterator[Image.Image]:
    """Open an image for the block, in which it is decoded."""
    with readable(name):
        data = read_bytes(source, name) if isinstance(source, Path) else source
        with Image.open(BytesIO(data) if isinstance(data, bytes) else data) as image:
            yield image


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Convert whatever the decoder of an image raises to ``BadInput``: each format has exceptions of its own."""
    try:
        yield
    except NibtError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(too_large(name)) from error
    except Image.UnidentifiedImageError as error:
        raise BadInput(f"{name!r:.300} is not an image in a format that Pillow reads") from error
    except PermissionError as error:
        raise BadInput(f"{name!r:.300} cannot be read: permission denied") from error
    except Exception as error:
        raise BadInput(f"{name!r:.300} is a broken or truncated image ({reason(error)})") from error


def too_large(name: str, size: str = "") -> str:
    """Return the message that an image has too many pixels."""
    return f"an image must have at most {MOST_PIXELS:,} pixels ({name!r:.300} has more{size}): scale it down"


def read_bytes(path: Path, name: str) -> bytes:
    """Return the bytes of the file of an image."""
    with readable(name):
        try:
            check_regular(path)
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise BadInput(f"there is no image {name!r:.300}: no such file") from error
        except (OSError, ValueError) as error:  # a name that is too long, or has a null character
            if os.path.isdir(path):
                raise BadInput(f"{name!r:.300} is a folder: give the path of one image") from error
            if isinstance(error, PermissionError) or os.path.exists(path):
                raise  # ``readable`` says why the file cannot be read
            raise BadInput(f"there is no image {name!r:.100}: {reason(error)}") from error

        if not data:
            raise BadInput(f"{name!r:.300} is an empty file (0 bytes)")
        return data


SAMPLE = "sample:"
_DICOM = {".dcm", ".dicom"}
_SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".ppm",
    ".avif",
    ".jp2",
    ".ico",
    *_DICOM,
}
_DEEP = 65535  # the largest value of 16 bits
_PHOTOMETRIC = 262  # the tag of TIFF whose value 0 means that 0 is white


@dataclass(frozen=True)
class ImageInput:
    """An upright RGB image.

    Attributes:
        pil_image: The image.
        source: Where the image comes from: a path, or a description.
        notes: What was changed when the image was read.
        file_hash: The digest of the image's file; empty without a file.
        parts: The images of which this one shows what a model sees, side by side; empty for a single image.
    """

    pil_image: Image.Image
    source: str
    notes: tuple[str, ...] = ()
    file_hash: str = field(default="", repr=False, compare=False)
    parts: tuple["ImagePart", ...] = field(default=(), repr=False, compare=False, kw_only=True)

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
    return load_json(files("nibt.data") / "samples" / "captions.json")


@cache
def sample_file(name: str) -> Path:
    """Return the file of an image that ships with the package."""
    if name not in _sample_files():
        raise UnknownName("samples", name, _sample_files())
    return _sample_files()[name]


@cache
def _sample_files() -> dict[str, Path]:
    folder = Path(str(files("nibt.data") / "samples"))
    return {file.stem: file for file in folder.iterdir() if file.suffix in (".png", ".jpg")}


def is_image_name(text: str) -> bool:
    """Return whether a text names an image: a file, an address, a sample, or a path that begins as ``./`` or ``/``."""
    is_path = bool(re.match(r"(\.{0,2}|~)[/\\]\S", text)) or os.path.isfile(without_window(text))
    return is_path or text.startswith(SAMPLE) or is_url(text) or names_image(text)


def names_image(text: str) -> bool:
    """Return whether a text has the suffix of an image file."""
    return Path(without_window(text)).suffix.lower() in _SUFFIXES


def looks_like_image(text: str) -> bool:
    """Return whether a text that is read as a caption is rather an image: a sample, an address or an image file."""
    return names_image(text) or text.startswith(SAMPLE) or is_url(text)


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
        name = str(getattr(source, "filename", "") or "image in memory")
        with readable(name):
            return _upright(source, name)

    if isinstance(source, np.ndarray | Tensor):
        return _from_array(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_image(bytes(source), "bytes")
    if isinstance(source, OpenFile):
        return _from_file(source)
    if not isinstance(source, str | os.PathLike):
        raise BadInput(
            "an image must be a path, the bytes of a file, an open file, a PIL image, an array or a tensor "
            f"(got {type(source).__name__})"
        )
    return _from_path(source)


def _from_path(source: str | os.PathLike) -> ImageInput:
    if isinstance(source, str) and source.startswith(SAMPLE):
        path = sample_file(source.removeprefix(SAMPLE))
        return decode_image(read_bytes(path, source), source)

    name = os.fspath(source)
    if not name:
        raise BadInput("the path of an image must not be empty (got ''): give the path of one image")
    if is_url(name):
        raise BadInput(f"an image must be a local file (got the URL {name!r}): download it, and give its path")
    return decode_image(read_bytes(Path(split_window(name)[0]), name), name)


def image_at(source: str, image_hash: str) -> ImageInput | None:
    """Return the image at a source, or None if it is missing or neither its file nor its pixels have the hash."""
    try:
        image = read_image(source)
    except NibtError:
        return None

    # an image that was given as an object of Pillow has the name of its file as its source, and a hash of its pixels
    return image if image_hash in (image.digest, replace(image, file_hash="").digest) else None


def is_batch(source: object) -> TypeGuard[np.ndarray | Tensor]:
    """Return whether a source is a batch of images in one array.

    Tensors have the shape (batch, channel, height, width), arrays (batch, height, width, channel).
    """
    nested = isinstance(source, Tensor) and source.is_nested
    return isinstance(source, np.ndarray | Tensor) and not nested and source.ndim == 4


def _from_file(stream: OpenFile) -> ImageInput:
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


def is_dicom(data: bytes) -> bool:
    """Return whether the bytes of a file are marked as DICOM."""
    return data[128:132] == b"DICM"


def digest_of(data: bytes, name: str) -> str:
    """Return the digest of an image, 16 hexadecimal digits: of the bytes of its file, and of a window in its name."""
    window = split_window(name)[1]
    shown = data if window is None else data + f"{WINDOW}{window.level!r},{window.width!r}".encode()
    return sha256(shown).hexdigest()[:16]


def path_digest(name: str) -> str:
    """Return the digest of the image that a path names, perhaps with a window, as ``ImageInput.digest`` has it.

    Raises:
        OSError: The file cannot be read.
        BadInput: The window has no level and width.
    """
    path, window = split_window(name)
    if window is None:
        return short_digest(path)
    with open_bytes(path) as stream:
        return digest_of(stream.read(), name)


def is_turned(name: str) -> bool:
    """Return whether EXIF data turn or flip the image that a path names."""
    data = read_bytes(Path(split_window(name)[0]), name)
    if is_dicom(data):
        return False
    with open_image(data, name) as image:
        return image.getexif().get(_ORIENTATION, 1) not in (0, 1)


def decode_image(data: bytes, name: str) -> ImageInput:
    """Read an image from the bytes of its file; a window in its name chooses the values that are shown."""
    if not data:
        raise BadInput(f"{name!r} is an empty file (0 bytes)")

    path, window = split_window(name)
    digest = digest_of(data, name)
    if is_dicom(data) or (Path(path).suffix.lower() in _DICOM and not _is_known(data)):
        from nibt.data.dicom import read_dicom  # which other images do not need

        image, notes = read_dicom(data, name, MOST_PIXELS, window)
        return ImageInput(image.convert("RGB"), name, tuple(notes), digest)
    with readable(name), Image.open(BytesIO(data)) as image:
        return _upright(image, name, digest, window)


def _is_known(data: bytes) -> bool:
    """Return whether Pillow knows the format of a file."""
    try:
        with Image.open(BytesIO(data)):
            return True
    except Exception:  # each format has exceptions of its own
        return False


def _upright(image: Image.Image, source: str, file_hash: str = "", window: Window | None = None) -> ImageInput:
    """Convert an image to upright RGB with its tones kept: 16 bits are scaled to 8, not clipped."""
    if 0 in image.size:
        raise BadInput(f"an image must have at least one pixel (got {image.width} x {image.height}, {source!r:.300})")
    if image.width * image.height > MOST_PIXELS:
        raise BadInput(too_large(source, f", {image.width:,} x {image.height:,}"))

    notes = []
    if getattr(image, "n_frames", 1) > 1:  # an image of the caller stays at its frame
        frame = "the first" if image.tell() == 0 else f"number {image.tell() + 1}"
        notes.append(f"the image has {image.n_frames} frames: {frame} is used")  # pyright: ignore

    image.load()
    file_format = image.format  # which a transposed image has no longer
    is_inverted = file_format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    image = ImageOps.exif_transpose(image)

    is_deep = image.mode.startswith("I") or image.mode == "F"
    if window is not None:
        image = _in_window(image, window, source, inverted=is_inverted and is_deep)
        notes.append(f"the window {window} was chosen")
    elif is_deep:
        values = np.asarray(image)
        if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PNG"):
            notes.append(_depth_note(values))
        image = _gray(values, image.mode, file_format)
        if is_inverted:  # Pillow inverts those of 8 bits only
            image = ImageOps.invert(image)
    elif _is_transparent(image):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        notes.append("transparent parts were replaced by white")

    return ImageInput(image.convert("RGB"), source, tuple(notes), file_hash)


def _is_transparent(image: Image.Image) -> bool:
    """Return whether pixels of an image are transparent."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return False
    return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def _depth_note(values: np.ndarray) -> str:
    """Return the note on an image of 16 bits, whose values may be in a small part of their range."""
    return (
        f"the image has 16 bits, so 0 was mapped to black and {_DEEP} to white (its values are from {values.min()} to "
        f"{values.max()}): choose another range with NAME#window=LEVEL,WIDTH"
    )


def _in_window(image: Image.Image, window: Window, source: str, inverted: bool) -> Image.Image:
    """Return a gray image with the values of a window."""
    if image.mode not in ("L", "F") and not image.mode.startswith("I"):
        raise BadInput(f"a window is for gray images (got one for {source!r:.300}, of mode {image.mode}): leave it out")
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise BadInput(f"the image {source!r:.300} holds NaN or infinite values")
    shades = windowed(values, window)
    return Image.fromarray(np.round(255 * (1 - shades if inverted else shades)).astype(np.uint8))


def _from_array(source: np.ndarray | Tensor) -> ImageInput:
    """Read an image from an array whose last axis has the channels, or a tensor whose first has; or a batch of one."""
    if isinstance(source, Tensor):
        _check_plain(source)

    item = source[0] if is_batch(source) and len(source) == 1 else source
    container = "tensor" if isinstance(item, Tensor) else "array"
    if item.ndim > 1:
        height, width = item.shape[-2:] if isinstance(item, Tensor) else item.shape[:2]
        if width * height > MOST_PIXELS:  # before anything is copied
            raise BadInput(too_large(container, f", {width:,} x {height:,}"))

    values = _channels_last(item) if isinstance(item, Tensor) else item
    return _from_channels_last(values, container, tuple(source.shape))


def _from_channels_last(values: np.ndarray, container: str, shape: tuple[int, ...]) -> ImageInput:
    """Read an image from an array whose last axis has the channels; ``shape`` is that of the caller's."""
    if isinstance(values, np.ma.MaskedArray):
        raise BadInput("an image must be a plain array (got a masked array): give array.filled(value)")

    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in values.shape:
        expected = "(3 or 4, height, width)" if container == "tensor" else "(height, width, 3 or 4)"
        raise BadInput(f"an image as {container} must have the shape {expected} or (height, width) (got {shape})")

    pixels = _as_bytes(values, container)
    if pixels.ndim == 3 and channels == 1:  # Pillow takes gray images without an axis of channels
        pixels = pixels[..., 0]
    return _upright(Image.fromarray(pixels), container)


class Region(NamedTuple):
    """A rectangle on the upright original, in its pixels; it extends past the edges where a model pads."""

    left: float
    top: float
    width: float
    height: float

    @property
    def pixels(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in whole pixels, at least one along each axis."""
        return round(self.left), round(self.top), max(1, round(self.width)), max(1, round(self.height))


class ImagePart(NamedTuple):
    """One of several images that are side by side: the region that is mapped, and the rows and columns of its map."""

    image: ImageInput
    region: Region
    shape: tuple[int, int]


def side_by_side(parts: Sequence[ImagePart]) -> ImageInput:
    """Return one image with a region of each of several, in which all cells of their maps have one size."""
    rows = max(part.shape[0] for part in parts)
    columns = sum(part.shape[1] for part in parts)

    # the largest height and width of a cell, in pixels of its image
    height = max(part.region.height / part.shape[0] for part in parts)
    width = max(part.region.width / part.shape[1] for part in parts)
    scale = min(1.0, (_MOST_BESIDE / (height * rows * width * columns)) ** 0.5)
    down = max(1, round(scale * height))
    across = max(1, round(scale * width))

    sheet = Image.new("RGB", (across * columns, down * rows), "white")
    place = 0
    for part in parts:
        left, top, wide, high = part.region
        region = part.image.pil_image.crop((round(left), round(top), round(left + wide), round(top + high)))
        sheet.paste(region.resize((across * part.shape[1], down * part.shape[0])), (place, 0))
        place += across * part.shape[1]

    return ImageInput(sheet, " + ".join(part.image.source for part in parts), parts=tuple(parts))
