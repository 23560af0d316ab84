"""The page of an audit."""

from nibt.formats.html import ResultPage
from nibt.report.html.audit import page
from nibt.results.audit import Audit


class AuditPage(ResultPage, name="audit"):
    """The page of an audit."""

    def page(self, result: Audit, sign: bool = False) -> str:
        return page(result, sign=sign)
