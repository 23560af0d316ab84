"""Pictures: the photograph, the map over it and the caption; those of several results are stacked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nibt.formats._pictures import encoded, image_formats
from nibt.formats.base import Drawing, Format, Result, bare
from nibt.report.image.explanation import draw
from nibt.report.image.layout import MARGIN, stacked


class Picture(Format):
    """Pictures of results, as ``draw`` returns them."""

    endings = (".png", ".jpg", *sorted(set(image_formats()) - {".png", ".jpg", ".tif", ".tiff", ".pdf"}))
    holds = ("explanation", "comparison", "interaction", "narrowing_curve")
    several: ClassVar = True

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        images = [draw(bare(result), drawing.positive_only, drawing.style, drawing.cmap) for result in results]
        picture = images[0] if len(images) == 1 else stacked(images, max(image.width for image in images) + MARGIN)
        return encoded(picture, image_formats()[path.suffix.lower()], request)


PLUGIN = Picture
