"""One HTML file that shows results interactively and needs no network."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nibt.report.appearance import appearance
from nibt.report.html.document import document
from nibt.report.html.view import SCRIPT, STYLE, fragment
from nibt.report.html.view_data import Panel
from nibt.report.html.view_text import heading
from nibt.report.request import WordMaps, question
from nibt.results.explanation import Explanation
from nibt.results.regions import Regions
from nibt.torch_modes import plain_torch

Shown = Explanation | WordMaps | Panel
_START = 'document.querySelectorAll(".nibt-view").forEach((view) => nibtView(view));'


@plain_torch()
def page(
    answers: Shown | Sequence[Shown],
    title: str = "",
    positive_only: bool = False,
    style: str = "overlay",
    cmap: str = "red_blue",
    request: Mapping[str, Any] | None = None,
) -> str:
    """Return the page of one result, or of several side by side with shared controls."""
    panels = panels_of(answers)
    view = fragment(panels, look=appearance(positive_only, style, cmap))
    named = title or " | ".join(dict.fromkeys(map(heading, panels)))
    above = f'<h1 dir="auto">{escape(title or _heading(panels))}</h1>'
    body = f"<main>\n{above}\n{view}\n</main>\n<footer>Created with nibt. This page loads and sends nothing.</footer>"
    return document(named, body, STYLE, [SCRIPT, _START], request)


def panels_of(answers: Shown | Sequence[Shown]) -> list[Panel]:
    """Return the panels of one result or of several."""
    listed = answers if isinstance(answers, Sequence) else [answers]
    return [item if isinstance(item, Panel) else Panel(item) for item in listed]


def _heading(panels: Sequence[Panel]) -> str:
    """Return the question of all panels, or a common one if they differ."""
    questions = {question(panel.answer) for panel in panels}
    if len(questions) == 1:
        return questions.pop()
    kinds = {type(panel.answer) for panel in panels}
    return "Which words go with which parts?" if kinds == {Regions} else "Where do these scores come from?"
