"""Pictures: of results as ``draw`` returns them, and of the map of one explanation in the size of its image."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from PIL import Image

from nibt.formats._pictures import PictureFormat, image_formats
from nibt.formats.base import Drawing, Result, bare
from nibt.report.image.explanation import draw
from nibt.report.image.heatmap import map_image, mask_image, overlay, score_image
from nibt.report.image.layout import MARGIN, stacked
from nibt.report.image.rows import photograph
from nibt.results.explanation import Explanation


class Picture(PictureFormat, name="image"):
    """Pictures: the photograph, the map over it and the caption; those of several results are stacked."""

    endings = (".png", ".jpg", *sorted(set(image_formats()) - {".png", ".jpg", ".tif", ".tiff", ".pdf"}))
    holds = ("explanation", "comparison", "regions", "answer", "decomposition")
    several: ClassVar = True

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        images = [draw(bare(result), drawing.positive_only, drawing.style, drawing.cmap) for result in results]
        return images[0] if len(images) == 1 else stacked(images, max(image.width for image in images) + MARGIN)


class MapFormat(PictureFormat):
    """Base class of pictures of the map of one explanation, in the size of its image."""

    @abstractmethod
    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        """Draw the map of an explanation."""

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        return self.of_map(bare(results[0]), drawing)


class GrayMap(MapFormat, name="map"):
    """The map in gray, in the size of the image: 128 is zero, 255 the largest absolute score."""

    endings = (".map.png",)

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return map_image(explanation, drawing.positive_only)


class Mask(MapFormat, name="mask"):
    """A mask in the size of the image: white where the score reaches the threshold."""

    endings = (".mask.png",)

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return mask_image(explanation, drawing.threshold)


class Overlay(MapFormat, name="overlay"):
    """The map over the image, without text, in the size of the image."""

    endings = (".overlay.png",)

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return overlay(explanation, photograph(explanation.image.input, explanation.source), drawing.look)


class Scores(MapFormat, name="tif"):
    """The scores of the pixels as 32-bit floats; NaN where the model did not see the image."""

    endings = (".tif", ".tiff")
    media_type = "image/tiff"

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return score_image(explanation)
