"""The page of parts of evidence."""

from typing import Any

from nibt.formats.html import ResultPage
from nibt.report.html.parts import page


class PartsPage(ResultPage, name="parts"):
    """The page of parts of evidence."""

    def page(self, result: Any, sign: bool = False) -> str:
        return page(result, sign=sign)
