"""Pictures: the photograph, the map over it and the caption; those of several results are stacked."""

from collections.abc import Sequence
from typing import ClassVar

from PIL import Image

from nibt.formats._pictures import PictureFormat, image_formats
from nibt.formats.base import Drawing, Result, bare
from nibt.report.image.explanation import draw
from nibt.report.image.layout import MARGIN, stacked


class Picture(PictureFormat):
    """Pictures of results, as ``draw`` returns them."""

    endings = (".png", ".jpg", *sorted(set(image_formats()) - {".png", ".jpg", ".tif", ".tiff", ".pdf"}))
    holds = ("explanation", "comparison", "regions", "answer", "decomposition")
    several: ClassVar = True

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        images = [draw(bare(result), drawing.positive_only, drawing.style, drawing.cmap) for result in results]
        return images[0] if len(images) == 1 else stacked(images, max(image.width for image in images) + MARGIN)


PLUGIN = Picture
