"""The map in gray, in the size of the image: 128 is zero, 255 the largest absolute score."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from nibt.formats._pictures import encoded
from nibt.formats.base import Drawing, Format, Result, bare
from nibt.report.image.heatmap import map_image
from nibt.results.explanation import Explanation


class GrayMap(Format):
    """Maps in gray."""

    endings = (".map.png",)

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        explanation = cast(Explanation, bare(results[0]))
        return encoded(map_image(explanation, drawing.positive_only), "PNG", request)


PLUGIN = GrayMap
