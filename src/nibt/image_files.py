"""Opening of images: the one place that knows what files may be, and what Pillow raises for broken ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from nibt.errors import BadInput, NibtError, reason
from nibt.io import open_bytes

MOST_PIXELS = 89_478_485  # the limit of Pillow, a quarter of a gigabyte as RGB, against decompression bombs


@contextmanager
def open_image(source: Path | BinaryIO | bytes, name: str) -> Iterator[Image.Image]:
    """Open an image for the block, in which it is decoded."""
    with readable(name):
        if isinstance(source, Path):
            _check_file(source, name)
            with open_bytes(source) as stream, Image.open(stream) as image:
                yield image
        else:
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
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


def _check_file(path: Path, name: str) -> None:
    try:
        exists, size = path.exists(), path.stat().st_size if path.exists() else 0
    except (OSError, ValueError) as error:  # a name that is too long, or has a null character
        raise BadInput(f"there is no image {name!r:.100}: {reason(error)}") from error
    if not exists:
        raise BadInput(f"there is no image {name!r:.300}: no such file")
    if path.is_dir():
        raise BadInput(f"{name!r:.300} is a folder: give the path of one image")
    if path.is_file() and size == 0:
        raise BadInput(f"{name!r:.300} is an empty file (0 bytes)")
