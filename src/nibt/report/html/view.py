"""The interactive view of pages, notebooks and the app, with data for ``view.js``; it is readable without scripts."""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from nibt.errors import BadInput
from nibt.io import read_text
from nibt.records import JsonObject
from nibt.report.appearance import DEFAULT, OUTLINED, Appearance
from nibt.report.colors import COVER, DARKEST, KEPT, LIGHTEST, PAPER
from nibt.report.html.view_data import EncodedImages, Failure, Panel, panel_data
from nibt.report.html.view_text import (
    about,
    answer_table,
    checks,
    details,
    heading,
    no_match,
    ranking,
    selection_note,
    warnings,
    words,
)
from nibt.report.image.heatmap import STRIPED, STRIPES
from nibt.results.attribution import ImageAttribution, TextAttribution
from nibt.results.explanation import is_noise

_HERE = files("nibt.report.html")
_SCRIPTS = ("view_geometry.js", "view_heatmap.js", "view_input.js", "view_readout.js", "view.js")
_JOINED = "\n".join(read_text(_HERE / name) for name in _SCRIPTS)
SCRIPT = f'(() => {{\n"use strict";\n{_JOINED}}})();'  # one scope, which exports only nibtView
STYLE = read_text(_HERE / "view.css")
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_STATIC = "JavaScript does not run here, so the maps are not drawn. All numbers are shown below."


def fragment(outcomes: Sequence[Panel | Failure], look: Appearance = DEFAULT, help_url: str = "") -> str:
    """Return panels side by side in one element, which needs ``STYLE`` and a call of ``nibtView`` of ``SCRIPT``."""
    panels = [outcome for outcome in outcomes if isinstance(outcome, Panel)]
    if not panels:
        raise BadInput("give at least one panel to show (got none)")
    look = look.pale if all(is_noise(panel.answer.warnings) for panel in panels) else look
    images: EncodedImages = {}
    drawn = set[int]()
    panel_records = [panel_data(panel, images) for panel in panels]
    numbered = iter(enumerate(panel_records))
    sections = "\n".join(
        _failed(outcome)
        if isinstance(outcome, Failure)
        else _section(outcome, *next(numbered), images, drawn, help_url)
        for outcome in outcomes
    )
    data = {
        "images": list(images.values()),
        # what view_heatmap.js needs to draw as nibt.report.image.heatmap does
        "colors": {
            "for": look.palette.positive,
            "against": look.palette.negative,
            "style": look.style,
            "outlined": OUTLINED if look.outlined else None,
            "paper": PAPER,
            "cover": COVER,
            "darkest": DARKEST,
            "lightest": LIGHTEST,
            "kept": KEPT,
            "stripes": STRIPES,
            "striped": STRIPED,
        },
        "panels": panel_records,
        "positive_only": look.positive_only,
    }
    return (
        f'<div class="nibt-view">\n<p class="nibt-static">{_STATIC}</p>\n<div class="nibt-panels">\n{sections}\n'
        f'</div>\n<script type="application/json" class="nibt-data">{as_json(data)}</script>\n</div>'
    )


def as_json(data: Any) -> str:
    r"""Return JSON that cannot close the script element around it.

    >>> as_json(["</script>"])
    '["\\u003c/script\\u003e"]'
    """
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPED)


def _failed(failure: Failure) -> str:
    return (
        f'<section class="nibt-panel nibt-failed" role="alert"><h2 dir="auto">{escape(failure.title)}'
        f"</h2><p>{escape(failure.message)}</p></section>"
    )


def _section(panel: Panel, number: int, data: JsonObject, images: EncodedImages, drawn: set[int], help_url: str) -> str:
    sides = [
        _stage(images, side["image"], attribution, drawn)
        if isinstance(attribution, ImageAttribution)
        else words(attribution, side["name"] if side["name"] in ("first", "second") else "")
        for attribution, side in zip(panel.sides.values(), data["sides"], strict=True)
    ]
    remarks = f'<p class="nibt-readout" aria-live="off"></p>{selection_note(panel)}{checks(panel)}{warnings(panel)}'
    if isinstance(list(panel.sides.values())[-1], TextAttribution):  # beside the image, if there is space
        sides[-1], remarks = ranking(panel) + sides[-1] + remarks, ""
    elements = "\n".join(
        f'<div class="nibt-place" data-side="{side_number}">{side}</div>' for side_number, side in enumerate(sides)
    )
    return (
        f'<section class="nibt-panel" data-panel="{number}">\n<h2 dir="auto">{escape(heading(panel))}</h2>\n'
        f'{about(panel, help_url)}\n{no_match(panel)}<div class="nibt-places">{elements}</div>\n'
        f"{remarks}{answer_table(panel)}{details(panel)}</section>"
    )


def _stage(images: EncodedImages, number: int, attribution: ImageAttribution, drawn: set[int]) -> str:
    """Return the stage of a map, with its image on first use; the script copies the image to other panels."""
    image = ""
    if number not in drawn:
        drawn.add(number)
        image = f'<img data-image="{number}" alt="{escape(attribution.source)}" src="{list(images)[number]}">'
    return f'<div class="nibt-stage">{image}</div>'
