"""The narrowing curve: the score against the share, and the information, that passes the bottleneck."""

from collections.abc import Sequence

from PIL import Image

from nibt.errors import BadInput
from nibt.formats._pictures import PictureFormat
from nibt.formats.base import Drawing, Result
from nibt.records import JsonObject
from nibt.report.html.view_data import Panel
from nibt.report.image.curve import draw_curve
from nibt.results.narrowing import NarrowingCurve


class CurvePicture(PictureFormat):
    """Narrowing curves, alone or of the panel of an explanation."""

    endings = (".curve.png",)
    holds = ("explanation", "narrowing_curve")
    needs = ("curve",)

    def picture(self, results: Sequence[Result], drawing: Drawing) -> Image.Image:
        return draw_curve(curve_in(results[0]))

    def request(self, results: Sequence[Result], drawing: Drawing) -> JsonObject:
        return curve_in(results[0]).request()


def curve_in(result: Result) -> NarrowingCurve:
    """Return the curve of a result."""
    curve = result.curve if isinstance(result, Panel) else result
    if not isinstance(curve, NarrowingCurve):
        raise BadInput(
            "a narrowing curve is needed for a file .curve.png, and this result has none: compute it with nibt "
            "explain, or with nibt.narrowing_curve"
        )
    return curve


PLUGIN = CurvePicture
