"""What the page says, as HTML: the answer to its fields, step by step, what it offers, and what is wrong."""

import time
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from nibt.app.cache import FORMATS, ResultCache
from nibt.app.limits import Deadline, Limits
from nibt.app.link import Link
from nibt.app.models import ModelCache
from nibt.app.request import ExplainRequest, answered, as_sentence, costs, unsupported
from nibt.data.images import SAMPLE, read_image, sample_captions, samples
from nibt.errors import NibtError
from nibt.report.html.view import Failure, Panel, fragment
from nibt.report.image.layout import shown, uri

Step = Callable[[int, int, str], Any]
INTRODUCTION = (
    '<header class="nibt-head"><h1>nibt</h1><p>Which parts of this image, and which words of this caption, make the '
    "model think that they belong together? What you give is computed on the machine that serves this page, and "
    "forgotten within minutes.</p></header>"
)
NOTHING = (
    '<div class="nibt-message">Give an image and a caption, then press Explain. Click a word to see its region; mark '
    "a box on the image to see its words.</div>"
)
_THUMBNAIL = 160


def answer_events(shelf: ModelCache, limits: Limits, recent: ResultCache, values: Any, step: Step) -> Iterator[str]:
    """What the page shows in answer to its fields: all that is known so far, or what is wrong, in plain words.

    ``values`` are those of the fields: the path of an image's file, captions, question, methods, model and setting.
    ``step`` is called with how many steps of how many are done, and what comes next.
    """
    try:
        file, captions, question, methods, model, variant = values
        step(0, 1, "Reading the image")
        request = ExplainRequest.read(file, captions, question, model, methods, variant, limits)
        step(0, request.steps, f"Loading {model}")
        loaded, began = shelf.model(model), time.monotonic()
        # a deadline is entered within each step, and holds for its thread: the next step may run in another
        steps = answered(request, loaded, lambda number: Deadline(limits.deadline(began, request.steps - 1 - number)))
        for done in range(request.steps):
            step(done, request.steps, f"Computing {[*request.methods, 'which words go with which regions'][done]}")
            yield _answer(request, next(steps), recent if done + 1 == request.steps else None)
    except NibtError as error:
        yield _message(as_sentence(error))


def sample_buttons() -> str:
    """The samples as buttons with small images."""
    small = {name: uri(shown(read_image(SAMPLE + name).pil_image, _THUMBNAIL), "JPEG") for name in samples()}
    buttons = "".join(
        f'<button type="button" data-name="{name}" aria-label="sample: {escape(sample_captions()[name])}">'
        f'<img alt="" src="{data}"></button>'
        for name, data in small.items()
    )
    return f'<p class="nibt-label">Or a sample</p><div class="nibt-samples">{buttons}</div>'


def unsupported_list(shelf: ModelCache, name: Any) -> str:
    """The methods that this model cannot be explained by, with the reasons; empty for a model that is not loaded."""
    model = shelf.loaded(name)
    reasons = {} if model is None else unsupported(model)
    lines = "".join(f'<li data-method="{escape(method)}">{escape(reason)}</li>' for method, reason in reasons.items())
    if not lines:
        return ""
    return (
        f'<details class="nibt-unsupported"><summary>{len(reasons)} methods cannot explain {escape(str(name))}'
        f"</summary><ul>{lines}</ul></details>"
    )


def cost_table() -> str:
    """What each method says of its cost."""
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(cost)}</td></tr>' for name, cost in costs())
    return f'<table class="nibt-costs"><caption>In forward passes of one tower</caption>{rows}</table>'


def _message(text: str, title: str = "") -> str:
    """What is wrong, where there is no view; ``title`` names the method."""
    named = f"<strong>{escape(title)}</strong>: " if title else ""
    return f'<div class="nibt-message" role="alert">{named}{escape(text)}</div>'


def _answer(request: ExplainRequest, outcomes: list[Panel | Failure], recent: ResultCache | None) -> str:
    """The view; once it is whole, with its downloads, and its link if anybody else has the image, too."""
    panels = [outcome for outcome in outcomes if isinstance(outcome, Panel)]
    view = (
        fragment(outcomes)
        if panels
        else "".join(
            _message(outcome.message, outcome.title if len(outcomes) > 1 else "")
            for outcome in outcomes
            if isinstance(outcome, Failure)
        )
    )
    if recent is None:
        return f'{view}<p class="nibt-more" role="status">More is being computed…</p>'
    if not panels:
        return view
    token, link = recent.keep(panels), Link.to(request)
    saved = " ".join(f'<a href="answer/{token}.{kind}" download="nibt.{kind}">{kind.upper()}</a>' for kind in FORMATS)
    shared = "" if link is None else f'<a class="nibt-link" href="?{escape(link.query)}">Link to this view</a>'
    return f'{view}<nav class="nibt-saved" aria-label="Save">Save as {saved} {shared}</nav>'
