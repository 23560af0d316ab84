"""A mask in the size of the image: white where the score reaches the threshold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from nibt.formats._pictures import encoded
from nibt.formats.base import Drawing, Format, Result, bare
from nibt.report.image.heatmap import mask_image
from nibt.results.explanation import Explanation


class Mask(Format):
    """Masks of maps."""

    endings = (".mask.png",)

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        explanation = cast(Explanation, bare(results[0]))
        return encoded(mask_image(explanation, drawing.threshold), "PNG", request)


PLUGIN = Mask
