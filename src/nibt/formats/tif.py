"""The scores of the pixels as 32-bit floats; NaN where the model did not see the image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from nibt.formats._pictures import encoded
from nibt.formats.base import Drawing, Format, Result, bare
from nibt.report.image.heatmap import score_image
from nibt.results.explanation import Explanation


class Scores(Format):
    """Scores of pixels."""

    endings = (".tif", ".tiff")
    media_type = "image/tiff"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        explanation = cast(Explanation, bare(results[0]))
        return encoded(score_image(explanation), "TIFF", request)


PLUGIN = Scores
