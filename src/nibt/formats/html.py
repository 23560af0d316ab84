"""Pages of results, which need no network, several side by side."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from nibt.formats.base import LOOK, Drawing, Format, Result, bare
from nibt.registry import Plugin, find, kinds


class ResultPage(Plugin, ABC):
    """Base class of pages of their own: that of a kind of results has the name of the kind."""

    @abstractmethod
    def page(self, result: Result, sign: bool = False) -> str:
        """Return the page, with its signature if it is a file."""


class Page(Format, name="html"):
    """Interactive pages that need no network; several results are side by side."""

    endings = (".html",)
    holds = ("explanation", "comparison", "regions", "answer", *kinds("pages"))
    several: ClassVar = True
    with_table: ClassVar = True
    draws = (*LOOK, "title")
    media_type = "text/html; charset=utf-8"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        result = bare(results[0])
        if result.kind in kinds("pages"):
            return find("pages", result.kind)().page(result, sign=True).encode()
        from nibt.report.html import view  # which takes long to import, and is needed for pages only

        text = view.page(cast(Any, results), drawing.title, drawing.positive_only, drawing.style, drawing.cmap, request)
        return text.encode()

    @staticmethod
    def framed(result: Any) -> str | None:
        """Return the page of a result in a frame, which notebooks show; None if its image is missing."""
        from nibt.report.notebook import display_data

        return cast("str | None", display_data(result, "text/html"))
