"""The interactive view: a fragment of HTML that reads without a script, with the data that ``view.js`` brings to life.

The same fragment stands in the one-file page (``nibt.report.html.page``), in notebooks, and in the web app.
"""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from nibt.errors import BadInput
from nibt.report.colors import AGAINST, COVER, FOR, PAPER
from nibt.report.html.view_data import EncodedImages, Failure, Panel, panel_data
from nibt.report.html.view_text import about, details, heading, no_match, ranking, warnings, why, words
from nibt.report.image.heatmap import GREYING, STRIPED, STRIPES
from nibt.results.attribution import ImageAttribution, TextAttribution

_HERE = files("nibt.report.html")
_SCRIPTS = ("view_geometry.js", "view_heatmap.js", "view_input.js", "view_readout.js", "view.js")
_JOINED = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
SCRIPT = f'(() => {{\n"use strict";\n{_JOINED}}})();'  # one scope: a page that has it sees nibtView alone
STYLE = (_HERE / "view.css").read_text(encoding="utf-8")
_ESCAPED = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
_COLOURS = {
    "for": FOR,
    "against": AGAINST,
    "paper": PAPER,
    "cover": COVER,
    "greying": GREYING,
    "stripes": STRIPES,
    "striped": STRIPED,
}
_STATIC = "The maps are drawn by a script, which does not run here. The numbers below are all there."


def fragment(outcomes: Sequence[Panel | Failure], level: int = 2, positive_only: bool = False) -> str:
    """The panels beside each other, whose headings have that level, as one element ``<div class="nibt-view">``.

    With ``positive_only`` only what speaks for the pair is shown at first. A ``Failure`` has its message in its own
    place.

    It needs ``STYLE``, and ``SCRIPT``, whose one function ``nibtView(element)`` is called once it stands in a page; it
    has no inline style, no handler and no address.

    Raises:
        BadInput: There is no panel, or an answer was loaded from a file and its image is no longer there.
    """
    panels = [outcome for outcome in outcomes if isinstance(outcome, Panel)]
    if not panels:
        raise BadInput("give at least one panel to show (got none)")
    images, drawn = EncodedImages(), set[int]()
    found = [panel_data(panel, images) for panel in panels]
    numbered = iter(enumerate(found))
    sections = "\n".join(
        _failed(outcome, level)
        if isinstance(outcome, Failure)
        else _section(outcome, *next(numbered), level, images, drawn)
        for outcome in outcomes
    )
    data = {"images": images.sizes, "colours": _COLOURS, "panels": found, "positive_only": positive_only}
    return (
        f'<div class="nibt-view">\n<p class="nibt-static">{_STATIC}</p>\n<div class="nibt-panels">\n{sections}\n'
        f'</div>\n<script type="application/json" class="nibt-data">{as_json(data)}</script>\n</div>'
    )


def as_json(data: Any) -> str:
    r"""JSON that cannot end the script element it stands in.

    >>> as_json(["</script>"])
    '["\\u003c/script\\u003e"]'

    """
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPED)


def _failed(failure: Failure, level: int) -> str:
    return (
        f'<section class="nibt-panel nibt-failed" role="alert"><h{level} dir="auto">{escape(failure.title)}'
        f"</h{level}><p>{escape(failure.message)}</p></section>"
    )


def _section(
    panel: Panel, number: int, data: dict[str, Any], level: int, images: EncodedImages, drawn: set[int]
) -> str:
    title = heading(panel)
    places = [
        _stage(images, place["image"], part, drawn)
        if isinstance(part, ImageAttribution)
        else words(part, place["name"] if place["name"] in ("first", "second") else "")
        for part, place in zip(panel.sides.values(), data["places"], strict=True)
    ]
    said = f'<p class="nibt-readout" aria-live="off"></p>{why(panel)}{warnings(panel)}{ranking(panel)}'
    if isinstance(list(panel.sides.values())[-1], TextAttribution):  # beside the image, where there is room
        places[-1], said = places[-1] + said, ""
    placed = "\n".join(f'<div class="nibt-place" data-place="{place}">{one}</div>' for place, one in enumerate(places))
    return (
        f'<section class="nibt-panel" data-panel="{number}">\n<h{level} dir="auto">{escape(title)}</h{level}>\n'
        f'{about(panel)}\n{no_match(panel)}<div class="nibt-places">{placed}</div>\n'
        f"{said}{details(panel)}</section>"
    )


def _stage(images: EncodedImages, number: int, part: ImageAttribution, drawn: set[int]) -> str:
    """The image where it stands first; the script takes it from there for other panels."""
    image = ""
    if number not in drawn:
        drawn.add(number)
        image = f'<img data-image="{number}" alt="{escape(part.source)}" src="{images.uris[number]}">'
    return f'<div class="nibt-stage">{image}</div>'
