"""Encoding of pictures with their signatures."""

from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any

from PIL import Image

from nibt.outputs import image_exif, signed, unsigned


@cache
def image_formats() -> dict[str, str]:
    """Return the formats in which Pillow writes images, by the endings of their files."""
    Image.init()
    return {ending: name for ending, name in Image.registered_extensions().items() if name in Image.SAVE}


def encoded(image: Image.Image, kind: str, request: Mapping[str, Any]) -> bytes:
    """Encode an image with its signature.

    A format with EXIF data is encoded three times, since the signature has a digest of the decoded pixels and the
    number of bytes. Others have it after their last byte, where readers ignore it.
    """
    plain, sized, buffer = BytesIO(), BytesIO(), BytesIO()
    image.save(plain, kind)
    if kind in Image.OPEN:
        with Image.open(plain) as decoded:
            image.save(sized, kind, exif=image_exif(decoded, request))
            image.save(buffer, kind, exif=image_exif(decoded, request, len(sized.getvalue())))
        with Image.open(buffer) as written:
            if written.getexif():
                return buffer.getvalue()
    return signed(plain.getvalue() + f"\n% {unsigned(request)}\n".encode())
