"""The map over the image, without text, in the size of the image."""

from PIL import Image

from nibt.formats._pictures import MapFormat
from nibt.formats.base import Drawing
from nibt.report.image.heatmap import overlay
from nibt.report.image.rows import photograph
from nibt.results.explanation import Explanation


class Overlay(MapFormat):
    """Maps over images."""

    endings = (".overlay.png",)

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return overlay(explanation, photograph(explanation.image.input, explanation.source), drawing.look)


PLUGIN = Overlay
