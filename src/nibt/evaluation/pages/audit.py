"""The page of an audit."""

from typing import Any

from nibt.formats.html import ResultPage
from nibt.report.html.audit import page


class AuditPage(ResultPage, name="audit"):
    """The page of an audit."""

    def page(self, result: Any, sign: bool = False) -> str:
        return page(result, sign=sign)
