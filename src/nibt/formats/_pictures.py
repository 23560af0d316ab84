"""The base class of formats that are pictures, and the encoding of pictures with their signatures."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from nibt.formats.base import Drawing, Format, Result
from nibt.results.outputs import image_exif, signed, unsigned


@cache
def image_formats() -> dict[str, str]:
    """Return the formats in which Pillow writes images, by the endings of their files."""
    Image.init()
    return {ending: name for ending, name in Image.registered_extensions().items() if name in Image.SAVE}


class PictureFormat(Format):
    """Base class of formats that are pictures. The ending chooses how they are encoded."""

    @abstractmethod
    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        """Draw the picture of a file."""

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        return encoded(self.picture(results, drawing), image_formats()[path.suffix.lower()], request)


def encoded(image: Image.Image, format_name: str, request: Mapping[str, Any]) -> bytes:
    """Encode an image with its signature, which is in its EXIF data or after its last byte, where readers ignore it."""
    plain, sized, buffer = BytesIO(), BytesIO(), BytesIO()
    image.save(plain, format_name)
    if format_name in Image.OPEN:
        with Image.open(plain) as decoded:  # the signature has a digest of the pixels, and the number of bytes
            image.save(sized, format_name, exif=image_exif(decoded, request))
            image.save(buffer, format_name, exif=image_exif(decoded, request, len(sized.getvalue())))
        with Image.open(buffer) as written:
            if written.getexif():
                return buffer.getvalue()
    return signed(plain.getvalue() + f"\n% {unsigned(request)}\n".encode())
