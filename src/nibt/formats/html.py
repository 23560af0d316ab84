"""Interactive pages that need no network; several results are side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.results.audit import Audit


class Page(Format):
    """Pages of results with word-region tables, and of audits."""

    endings = (".html",)
    holds = ("explanation", "comparison", "regions", "answer", "audit")
    several: ClassVar = True
    with_table: ClassVar = True
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
