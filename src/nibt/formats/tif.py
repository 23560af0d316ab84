"""The scores of the pixels as 32-bit floats; NaN where the model did not see the image."""

from PIL import Image

from nibt.formats._pictures import MapFormat
from nibt.formats.base import Drawing
from nibt.report.image.heatmap import score_image
from nibt.results.explanation import Explanation


class Scores(MapFormat):
    """Scores of pixels."""

    endings = (".tif", ".tiff")
    media_type = "image/tiff"

    def of_map(self, explanation: Explanation, drawing: Drawing) -> Image.Image:
        return score_image(explanation)


PLUGIN = Scores
