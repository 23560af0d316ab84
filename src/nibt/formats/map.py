"""The map in gray, in the size of the image: 128 is zero, 255 the largest absolute score."""

from PIL import Image

from nibt.formats._pictures import MapFormat
from nibt.formats.base import Drawing
from nibt.report.image.heatmap import map_image
from nibt.results.explanation import Explanation


class GrayMap(MapFormat):
    """Maps in gray."""

    endings = (".map.png",)

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return map_image(explanation, drawing.positive_only)


PLUGIN = GrayMap
