"""The page of parts of captions."""

from nibt.formats.html import ResultPage
from nibt.report.html.word_parts import page
from nibt.results.word_parts import WordParts


class WordPartsPage(ResultPage, name="word_parts"):
    """The page of parts of captions."""

    def page(self, result: WordParts, sign: bool = False) -> str:
        return page(result, sign=sign)
