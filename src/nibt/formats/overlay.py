"""The map over the image, without text, in the size of the image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from nibt.formats._pictures import encoded
from nibt.formats.base import Drawing, Format, Result, bare
from nibt.report.image.heatmap import overlay
from nibt.report.image.rows import photograph
from nibt.results.explanation import Explanation


class Overlay(Format):
    """Maps over images."""

    endings = (".overlay.png",)

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        explanation = cast(Explanation, bare(results[0]))
        image = photograph(explanation.image.input, explanation.source)
        return encoded(overlay(explanation, image, drawing.look), "PNG", request)


PLUGIN = Overlay
