"""The view of the maps of the words of a caption."""

from nibt.records import JsonObject
from nibt.report.image.words import WordsView
from nibt.report.view import quoted, similarity_name
from nibt.results.regions import Regions


class RegionsView(WordsView, name="regions"):
    """The photograph once per word of the caption."""

    shows = Regions
    place = 2
    before_method = "word-region table of "

    def question(self, result: Regions) -> str:
        return f"Which words of {quoted(result.caption)} go with which parts of the image?"

    def raised(self, result: Regions) -> str:
        return "similarity"

    def is_signed(self, result: Regions) -> bool:
        return True

    def target_line(self, result: Regions) -> str:
        return f"target {similarity_name(result)}"

    def heading(self, result: Regions) -> str:
        return result.caption

    def score(self, result: Regions) -> tuple[str, float]:
        return "similarity", result.similarity

    def facts(self, result: Regions) -> JsonObject:
        return {"sum": f"{float(result.scores.sum()):.6g}", "expected sum": f"{result.product:.6g}"}

    def sums(self, result: Regions) -> str:
        return (
            f"similarity ({similarity_name(result)}) {result.similarity:z.3f}    all of the table, special tokens "
            f"included: {float(result.scores.sum()):+.3f}, gap {result.gap:+.1g}"
        )
