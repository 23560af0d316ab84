"""A mask in the size of the image: white where the score reaches the threshold."""

from PIL import Image

from nibt.formats._pictures import MapFormat
from nibt.formats.base import Drawing
from nibt.report.image.heatmap import mask_image
from nibt.results.explanation import Explanation


class Mask(MapFormat):
    """Masks of maps."""

    endings = (".mask.png",)

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return mask_image(explanation, drawing.threshold)


PLUGIN = Mask
