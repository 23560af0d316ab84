"""The page of parts of evidence."""

from nibt.formats.html import ResultPage
from nibt.report.html.parts import page
from nibt.results.parts import Parts


class PartsPage(ResultPage, name="parts"):
    """The page of parts of evidence."""

    def page(self, result: Parts, sign: bool = False) -> str:
        return page(result, sign=sign)
