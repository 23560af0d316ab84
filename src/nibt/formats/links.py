"""A figure of the strongest links from words to parts of the image: a PDF file with lines and text, or an image."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from nibt.formats._pictures import PictureFormat
from nibt.formats.base import Drawing, Result, bare
from nibt.records import JsonObject
from nibt.results.outputs import unsigned


class Links(PictureFormat):
    """The strongest links of a word-region table."""

    endings = (".links.pdf", ".links.png")
    holds = ("regions",)

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        if path.suffix.lower() == ".pdf":
            return _figure(results, drawing, "pdf", unsigned(request))
        return super().encode(results, path, drawing, request)

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        return Image.open(BytesIO(_figure(results, drawing))).convert("RGB")

    def request(self, results: Sequence[Result], drawing: Drawing) -> JsonObject:
        links = [drawing.top, list(drawing.words), drawing.box]
        return {**super().request(results, drawing), "links": links}


def _figure(results: Sequence[Result], drawing: Drawing, file_type: str = "png", subject: str | None = None) -> bytes:
    from nibt.report.image.links import links_figure  # which imports matplotlib

    return links_figure(bare(results[0]), drawing.top, drawing.words, drawing.box, drawing.look, file_type, subject)
