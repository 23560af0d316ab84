"""A figure of the strongest links from words to parts of the image: a PDF file with lines and text, or an image."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from PIL import Image

from nibt.formats._pictures import encoded
from nibt.formats.base import Drawing, Format, Result, bare
from nibt.outputs import unsigned
from nibt.results.interaction import Interaction


class Links(Format):
    """The strongest links of a word-region table."""

    endings = (".links.pdf", ".links.png")
    holds = ("interaction",)

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        from nibt.report.image.links import links_figure  # which imports matplotlib

        table = cast(Interaction, bare(results[0]))
        options = (table, drawing.top, drawing.words, drawing.box, drawing.look)
        if path.suffix.lower() == ".pdf":
            return links_figure(*options, "pdf", unsigned(request))
        return encoded(Image.open(BytesIO(links_figure(*options))).convert("RGB"), "PNG", request)

    def request(self, results: Sequence[Result], drawing: Drawing) -> dict[str, Any]:
        links = [drawing.top, list(drawing.words), drawing.box]
        return {**super().request(results, drawing), "links": links}


PLUGIN = Links
