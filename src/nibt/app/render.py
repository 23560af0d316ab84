"""The HTML of the page: results, messages, samples and lists of methods."""

import time
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from nibt.app.cache import FORMATS, ResultCache
from nibt.app.limits import Deadline, Limits
from nibt.app.link import Link
from nibt.app.models import ModelCache
from nibt.app.request import ExplainRequest, as_sentence, explain_steps, method_costs, unsupported_methods
from nibt.data.images import SAMPLE, read_image, sample_captions, samples
from nibt.errors import NibtError
from nibt.report.html.view import Failure, Panel, fragment
from nibt.report.image.layout import shown, uri

OnStep = Callable[[int, int, str], Any]
INTRODUCTION = (
    '<header class="nibt-head"><h1>nibt</h1><p>Which parts of this image, and which words of this caption, make the '
    "model match them? Your image and caption are processed on the machine that serves this page, and deleted within "
    "minutes.</p></header>"
)
EMPTY = (
    '<div class="nibt-message">Choose an image, write a caption and press Explain. Then click a word to see its '
    "region, or mark a box on the image to see its words.</div>"
)
_THUMBNAIL_SIZE = 160


def answer_events(
    models: ModelCache, limits: Limits, results: ResultCache, values: Any, on_step: OnStep
) -> Iterator[str]:
    """Yield the HTML of the results so far, after each step of a computation, or an error message.

    Args:
        models: The models of the page.
        limits: The limits of the page.
        results: Stores the complete result, for downloads.
        values: The values of the input fields: the path of the image file, captions, mode, methods, model, variant.
        on_step: Called before each step with the number of finished steps, the number of steps, and what comes next.

    """
    try:
        file, captions, mode, methods, model_name, variant = values
        on_step(0, 1, "Reading the image")
        request = ExplainRequest.from_fields(file, captions, mode, model_name, methods, variant, limits)
        on_step(0, request.steps, f"Loading {model_name}")
        model, start = models.get(model_name), time.monotonic()
        # each step enters its own deadline: a deadline applies to one thread, and the next step may run in another one
        steps = explain_steps(
            request, model, lambda number: Deadline(limits.deadline(start, request.steps - 1 - number))
        )
        for done in range(request.steps):
            on_step(done, request.steps, f"Computing {[*request.methods, 'the word-region tables'][done]}")
            yield _result(request, next(steps), results if done + 1 == request.steps else None)
    except NibtError as error:
        yield _message(as_sentence(error))


def sample_buttons() -> str:
    """Return a button with a small image for each sample."""
    small = {name: uri(shown(read_image(SAMPLE + name).pil_image, _THUMBNAIL_SIZE), "JPEG") for name in samples()}
    buttons = "".join(
        f'<button type="button" data-name="{name}" aria-label="sample: {escape(sample_captions()[name])}">'
        f'<img alt="" src="{data}"></button>'
        for name, data in small.items()
    )
    return f'<p class="nibt-label">Or choose a sample</p><div class="nibt-samples">{buttons}</div>'


def unsupported_list(models: ModelCache, name: Any) -> str:
    """Return the methods that a model does not support, with the reasons; empty if the model is not loaded."""
    model = models.get_loaded(name)
    reasons = {} if model is None else unsupported_methods(model)
    items = "".join(f'<li data-method="{escape(method)}">{escape(reason)}</li>' for method, reason in reasons.items())
    if not items:
        return ""
    return (
        f'<details class="nibt-unsupported"><summary>{len(reasons)} methods cannot explain {escape(str(name))}'
        f"</summary><ul>{items}</ul></details>"
    )


def cost_table() -> str:
    """Return a table of the costs of all methods."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(cost)}</td></tr>' for name, cost in method_costs()
    )
    return f'<table class="nibt-costs"><caption>Forward passes of one tower</caption>{rows}</table>'


def _message(text: str, title: str = "") -> str:
    """Return an error message; ``title`` is the name of the method, if there are several."""
    prefix = f"<strong>{escape(title)}</strong>: " if title else ""
    return f'<div class="nibt-message" role="alert">{prefix}{escape(text)}</div>'


def _result(request: ExplainRequest, outcomes: list[Panel | Failure], results: ResultCache | None) -> str:
    """Return the view of a result; with ``results`` it is complete and has downloads and, if possible, a link."""
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
    if results is None:
        return f'{view}<p class="nibt-more" role="status">More is being computed…</p>'
    if not panels:
        return view
    token, link = results.store(panels), Link.of(request)
    downloads = " ".join(
        f'<a href="answer/{token}.{kind}" download="nibt.{kind}">{kind.upper()}</a>' for kind in FORMATS
    )
    shared = "" if link is None else f'<a class="nibt-link" href="?{escape(link.query)}">Link to this view</a>'
    return f'{view}<nav class="nibt-saved" aria-label="Save">Save as {downloads} {shared}</nav>'
