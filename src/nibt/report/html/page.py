"""One HTML file that shows answers: it opens anywhere, asks nothing of a network, and answers to hovers and clicks."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nibt.outputs import write_bytes
from nibt.report.html.document import document
from nibt.report.html.view import SCRIPT, STYLE, fragment
from nibt.report.html.view_data import Panel
from nibt.report.html.view_text import heading
from nibt.report.request import question
from nibt.results.explanation import Comparison, Explanation
from nibt.results.interaction import Interaction
from nibt.results.saving import request_of
from nibt.torch_modes import plain_torch

Shown = Explanation | Comparison | Interaction | Panel
_START = 'document.querySelectorAll(".nibt-view").forEach((view) => nibtView(view));'


@plain_torch()
def page(
    answers: Shown | Sequence[Shown],
    title: str = "",
    positive_only: bool = False,
    request: Mapping[str, Any] | None = None,
) -> str:
    """The whole page: one answer, or several beside each other, with shared controls.

    A ``Panel`` is an answer with its word-region table, or with a title of its own. With ``positive_only`` only what
    speaks for the pair is shown at first.

    Raises:
        BadInput: There is no answer, or one was loaded from a file and its image is no longer there.

    """
    panels = [one if isinstance(one, Panel) else Panel(one) for one in _listed(answers)]
    view = fragment(panels, positive_only=positive_only)
    named = title or " | ".join(dict.fromkeys(map(heading, panels)))
    above = f'<h1 dir="auto">{escape(title or _heading(panels))}</h1>'
    body = f"<main>\n{above}\n{view}\n</main>\n<footer>Made by nibt. Nothing on this page is fetched or sent.</footer>"
    return document(named, body, STYLE, [SCRIPT, _START], request)


def write_page(
    answers: Shown | Sequence[Shown],
    path: str | Path,
    title: str = "",
    positive_only: bool = False,
    *,
    overwrite: bool = False,
) -> None:
    """Write the page, whole or not at all.

    Raises:
        BadInput: There is no answer, or one was loaded from a file and its image is no longer there.
        WouldOverwrite: A file is there that nibt did not write, and ``overwrite`` is not given.
        CannotWrite: The folder is missing or closed, or the disk is full.

    """
    results = [one.answer if isinstance(one, Panel) else one for one in _listed(answers)]
    text = page(answers, title, positive_only, request_of(results))
    write_bytes(Path(path), text.encode(), overwrite)


def _listed(answers: Shown | Sequence[Shown]) -> list[Shown]:
    return list(answers) if isinstance(answers, Sequence) else [answers]


def _heading(panels: Sequence[Panel]) -> str:
    """The question of all panels, or what their questions have in common."""
    questions = {question(panel.answer) for panel in panels}
    if len(questions) == 1:
        return questions.pop()
    kinds = {type(panel.answer) for panel in panels}
    return "Which words go with which parts?" if kinds == {Interaction} else "Where do these scores come from?"
