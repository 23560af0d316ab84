"""The interactive view of pages, notebooks and the app, and the page around it: HTML that needs no network.

``view.html`` is readable without scripts; ``view.js`` has the data of the maps.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from nibt.errors import BadInput
from nibt.io import read_text
from nibt.records import JsonObject
from nibt.report.colors import COVER, DARKEST, DEFAULT, KEPT, LIGHTEST, OUTLINED, PALE, PAPER, Appearance, appearance
from nibt.report.html.document import document, rendered
from nibt.report.html.view_data import EncodedImages, Failure, Panel, panel_data
from nibt.report.html.view_text import heading, panel_text, scored_words
from nibt.report.image.heatmap import STRIPED, STRIPES
from nibt.report.request import question, sentence
from nibt.report.view import fixed
from nibt.results.attribution import SideAttribution, TextAttribution
from nibt.results.base import ResultWithMaps
from nibt.results.regions import Regions
from nibt.torch_modes import plain_torch

Shown = ResultWithMaps | Panel
_HERE = files("nibt.report.html")
_SCRIPTS = ("view_geometry.js", "view_heatmap.js", "view_input.js", "view_readout.js", "view.js")
_JOINED = "\n".join(read_text(_HERE / name) for name in _SCRIPTS)
SCRIPT = f'(() => {{\n"use strict";\n{_JOINED}}})();'  # one scope, which exports only nibtView
STYLE = read_text(_HERE / "view.css")
_START = 'document.querySelectorAll(".nibt-view").forEach((view) => nibtView(view));'
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@plain_torch()
def page(
    answers: Shown | Sequence[Shown],
    title: str = "",
    positive_only: bool = False,
    style: str = "overlay",
    cmap: str = "red_blue",
    request: Mapping[str, object] | None = None,
) -> str:
    """Return the page of one result, or of several side by side with shared controls."""
    panels = panels_of(answers)
    view = fragment(panels, look=appearance(positive_only, style, cmap))
    named = title or " | ".join(dict.fromkeys(map(heading, panels)))
    questions = {question(panel.answer) for panel in panels}
    are_regions = all(isinstance(panel.answer, Regions) for panel in panels)
    common = "Which words go with which parts?" if are_regions else "Where do these scores come from?"
    body = Markup(
        '<main>\n<h1 dir="auto">{}</h1>\n{}\n</main>\n<footer>Created with nibt. This page loads and sends nothing.'
        "</footer>"
    ).format(title or (common if len(questions) > 1 else questions.pop()), view)
    return document(named, body, STYLE, [SCRIPT, _START], request)


def panels_of(answers: Shown | Sequence[Shown]) -> list[Panel]:
    """Return the panels of one result or of several."""
    listed = answers if isinstance(answers, Sequence) else [answers]
    return [item if isinstance(item, Panel) else Panel(item) for item in listed]


def fragment(outcomes: Sequence[Panel | Failure], look: Appearance = DEFAULT, help_url: str = "") -> Markup:
    """Return panels side by side in one element, which needs ``STYLE`` and a call of ``nibtView`` of ``SCRIPT``."""
    panels = [outcome for outcome in outcomes if isinstance(outcome, Panel)]
    if not panels:
        raise BadInput("give at least one panel to show (got none)")

    images: EncodedImages = {}
    drawn = set[int]()
    panel_records = [panel_data(panel, images) for panel in panels]

    # the script finds the data of a panel by its number among those that were computed
    numbered = iter(enumerate(panel_records))
    uris = list(images)
    visible = []
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            visible.append(vars(outcome))
            continue

        number, record = next(numbered)
        sides = [_side(*side, uris, drawn) for side in zip(outcome.sides.values(), record["sides"], strict=True)]
        visible.append({**panel_text(outcome), "number": number, "sides": sides})

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
            "faded": PALE,
            "stripes": STRIPES,
            "striped": STRIPED,
        },
        # for maps that are noise
        "pale": {
            "for": look.pale.palette.positive,
            "against": look.pale.palette.negative,
            "style": look.pale.style,
            "outlined": None,
        },
        "panels": panel_records,
        "positive_only": look.positive_only,
    }
    return rendered(
        "view.html", panels=visible, help_url=help_url, data=Markup(as_json(data)), fixed=fixed, sentence=sentence
    )


def _side(attribution: SideAttribution, record: JsonObject, uris: Sequence[str], drawn: set[int]) -> dict[str, Any]:
    """Return a caption, or an image, which is in the page on first use: the script copies it to other panels."""
    if isinstance(attribution, TextAttribution):
        name = record["name"]
        label = {"text": "words of the caption", "against": "other caption"}.get(name, f"{name} caption")
        title = "Other caption" if name == "against" else ""
        return {"label": label, "title": title, "words": scored_words(attribution)}

    number = record["image"]
    is_new = number not in drawn
    drawn.add(number)
    return {"number": number, "source": attribution.source, "uri": uris[number] if is_new else ""}


def as_json(data: object) -> str:
    r"""Return JSON that cannot close the script element around it.

    >>> as_json(["</script>"])
    '["\\u003c/script\\u003e"]'
    """
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPED)
