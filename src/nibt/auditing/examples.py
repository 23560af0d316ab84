"""A pair as it is shown on the page: a small copy of the picture, and plain numbers."""

from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO

from PIL import Image

from nibt.audit_result import Example
from nibt.auditing.maps import Map
from nibt.pair import Pair

_SIDE = 192


def example(method: str, pair: Pair, images: Mapping[str, Map], texts: Mapping[str, Map]) -> Example:
    """What a method says of a pair, by what was changed."""
    first = next(iter(images.values())).region
    assert first is not None
    width, height = pair.picture.size
    region = first.left / width, first.top / height, first.width / width, first.height / height
    return Example(
        method, pair.caption, _uri(pair.picture.image), region,
        {name: one.scores.tolist() for name, one in images.items()},
        {name: list(zip(one.words, one.scores.tolist(), strict=True)) for name, one in texts.items()},
    )  # fmt: skip


def _uri(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    small.save(buffer, "PNG")
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()
