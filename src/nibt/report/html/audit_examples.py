"""Example maps of an audit: how the map and the caption's scores change with each perturbation."""

from base64 import b64decode
from dataclasses import dataclass
from html import escape
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nibt.data.images import Region
from nibt.report.colors import strength
from nibt.report.html.audit_style import shade
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import uri
from nibt.results.audit import Example


@dataclass(frozen=True)
class _ExampleMap:
    """A map with the region of the thumbnail that it covers."""

    grid: Tensor
    region: Region
    size: tuple[int, int]


def figure(example: Example) -> str:
    """Return an example: the image, each of its maps, and the caption in the colors of each result."""
    image = _image(example.image)
    tiles = [_tile(example.image, "image")]
    tiles += [_tile(_overlay_uri(example, image, grid), name) for name, grid in example.maps.items()]
    words = "".join(
        f"<tr><th>{escape(name)}</th><td>{_words(scored_words)}</td></tr>"
        for name, scored_words in example.words.items()
    )
    return (
        f'<section class="example"><div class="tiles">{"".join(tiles)}</div>'
        f'<table class="words">{words}</table></section>'
    )


def _image(uri: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB")


def _overlay_uri(example: Example, image: Image.Image, grid: list[list[float]]) -> str:
    """Return the map over the image, as a data URI."""
    width, height = image.size
    left, top, across, down = example.region
    region = Region(left * width, top * height, across * width, down * height)
    return uri(overlay(_ExampleMap(torch.tensor(grid, dtype=torch.float32), region, image.size), image))


def _tile(uri: str, name: str) -> str:
    return f'<figure><img src="{uri}" alt="{escape(name)}"><figcaption>{escape(name)}</figcaption></figure>'


def _words(scored_words: list[tuple[str, float]]) -> str:
    scores = np.array([score for _, score in scored_words], np.float32)
    shares = strength(scores, float(np.abs(scores).max(initial=0))).tolist()
    return " ".join(
        f'<span class="{shade(share)}">{escape(text)}</span>'
        for (text, _), share in zip(scored_words, shares, strict=True)
    )
