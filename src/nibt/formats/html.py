"""Pages of results, which need no network, several side by side; and sections of model cards, in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from nibt.formats.base import LOOK, Drawing, Format, Result, bare
from nibt.report.certificate import certificate, span
from nibt.report.html.document import template
from nibt.results.audit import Audit
from nibt.results.outputs import unsigned


class Card(Format, name="card"):
    """A section for the model card of an audited model, in Markdown."""

    endings = (".card.md",)
    holds = ("audit",)
    media_type = "text/markdown; charset=utf-8"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        audit = cast(Audit, bare(results[0]))
        card = template("card.md", "nibt.formats").render(
            audit=audit, certified=certificate(audit), span=span, signature=unsigned(request)
        )
        return card.encode()


class Page(Format, name="html"):
    """Interactive pages that need no network; several results are side by side."""

    endings = (".html",)
    holds = ("explanation", "comparison", "regions", "answer", "audit")
    several: ClassVar = True
    with_table: ClassVar = True
    draws = (*LOOK, "title")
    media_type = "text/html; charset=utf-8"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        from nibt.report.html import audit, view  # which take long to import, and are needed for pages only

        result = bare(results[0])
        if isinstance(result, Audit):
            return audit.page(result, sign=True).encode()
        text = view.page(cast(Any, results), drawing.title, drawing.positive_only, drawing.style, drawing.cmap, request)
        return text.encode()

    @staticmethod
    def framed(result: Any) -> str | None:
        """Return the page of a result in a frame, which notebooks show; None if its image is missing."""
        from nibt.report.notebook import display_data

        return cast("str | None", display_data(result, "text/html"))
