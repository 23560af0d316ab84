"""The page of a slide: its maps, and a table of the tiles with the highest values."""

from importlib.resources import files

from markupsafe import Markup

from nibt.formats.html import ResultPage
from nibt.io import read_text
from nibt.report.colors import DEFAULT
from nibt.report.html.document import TABLE_SCRIPT, TABLE_STYLE, data_table, document, template
from nibt.report.image.layout import uri
from nibt.report.request import sentence
from nibt.slides.explanation import SlideExplanation
from nibt.slides.views.slide import slide_facts, slide_legend, slide_panels, slide_question

_PACKAGE = "nibt.slides.pages"
_SIDE = 1024  # pixels
_QUALITY = 85  # of JPEG
_MOST_ROWS = 200
_COLUMNS = ("row", "column", "left", "top", "side", "content", "similarity", "value", "sum", "gap")
_WHOLE = ("row", "column", "left", "top", "side")


class SlidePage(ResultPage, name="slide"):
    """The page of a slide."""

    def page(self, result: SlideExplanation, sign: bool = False) -> str:
        look = DEFAULT.pale if result.is_noise("image") else DEFAULT
        panels = [
            (name, number, uri(picture, "JPEG", quality=_QUALITY))
            for name, number, picture in slide_panels(result, look, _SIDE)
        ]
        listed = [result.tile_row(tile) for tile in result.strongest(_MOST_ROWS)]
        rows = [[_text(name, row[name]) for name in _COLUMNS] for row in listed]
        most = float(result.maps.abs().max())
        body = template("slide.html", _PACKAGE).render(
            question=slide_question(result),
            result=result,
            panels=panels,
            legend=f"{slide_legend(result, look)} Full color is at {most:.2g}.",
            facts=[*slide_facts(result)],
            shown=len(rows),
            table=data_table(_COLUMNS, rows),
            sentence=sentence,
        )
        style = TABLE_STYLE + read_text(files(_PACKAGE) / "slide.css")
        request = result.request() if sign else None
        return document(slide_question(result), Markup(body), style, [TABLE_SCRIPT], request)


def _text(name: str, value: float | int) -> str:
    return f"{value:.0f}" if name in _WHOLE else f"{value:.4f}"
