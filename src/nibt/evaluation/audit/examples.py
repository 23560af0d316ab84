"""Examples for the page of an audit: thumbnails of images with their maps."""

from collections.abc import Mapping

from PIL import Image

from nibt.data.pair import Pair
from nibt.evaluation.maps import Map
from nibt.report.image.layout import uri
from nibt.results.audit import Example

_SIDE = 192


def example(method: str, pair: Pair, images: Mapping[str, Map], texts: Mapping[str, Map]) -> Example:
    """Build an example from a pair."""
    first = next(iter(images.values())).region
    assert first is not None
    width, height = pair.image.size
    region = first.left / width, first.top / height, first.width / width, first.height / height
    return Example(
        method,
        pair.caption,
        _small(pair.image.pil_image),
        region,
        {name: image_map.scores.tolist() for name, image_map in images.items()},
        {name: list(zip(text_map.words, text_map.scores.tolist(), strict=True)) for name, text_map in texts.items()},
    )


def _small(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    return uri(small)
