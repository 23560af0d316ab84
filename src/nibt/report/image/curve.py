"""The image of a narrowing curve: the score against lambda, and against the information that passes."""

from PIL import Image

from nibt.report.colors import PALETTES
from nibt.report.image.layout import MARGIN, centered, stacked, text_rows
from nibt.report.image.plot import WIDTH, Line, plot
from nibt.report.request import sentence
from nibt.results.explanation import method_text
from nibt.results.narrowing import NarrowingCurve

_COLORS = {"image": PALETTES["red_blue"].positive, "text": PALETTES["red_blue"].negative}


def draw_curve(curve: NarrowingCurve) -> Image.Image:
    """Draw the means over the pairs, by lambda and, if that has limits, by information, and what was narrowed."""
    plots = [plot(_lines(curve, False), f"mean {curve.target}" if len(curve) > 1 else curve.target, "\u03bb")]
    by_information = _lines(curve, True)
    if all(len(line.across) > 1 for line in by_information):
        plots.append(plot(by_information, f"{curve.target} by information", "information (nats per patch or token)"))
    width = 2 * WIDTH + 3 * MARGIN
    return stacked([centered(plots, width), text_rows(_notes(curve), width)], width)


def _lines(curve: NarrowingCurve, by_information: bool) -> list[Line]:
    """Return the line of each side, without the positions at which the information has no limit."""
    lines = []
    for name, side in curve.sides.items():
        across = side.mean_information if by_information else curve.positions
        points = [(place, value) for place, value in zip(across, side.mean_scores, strict=True) if place is not None]
        places, values = zip(*points, strict=True)
        lines.append(Line(name, _COLORS[name], places, values))
    return lines


def _notes(curve: NarrowingCurve) -> list[str]:
    first = curve.pairs[0]
    what = f"{first.source} with \u201c{first.caption}\u201d" if len(curve) == 1 else f"means over {len(curve)} pairs"
    noise = {name: str(curve.method.get(name, {}).get("noise", "none")) for name in curve.sides}
    return [
        f"{what}    {method_text(curve.method)}, noise {', '.join(dict.fromkeys(noise.values()))}    "
        f"\u03bb = 1 is the hidden state, \u03bb = 0 the baseline",
        *(f"note: {sentence(warning, capital=False)}" for warning in curve.warnings),
    ]
