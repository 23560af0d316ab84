"""The HTML of the page: results, messages, samples and what is known of methods."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from nibt.app.cache import ModelCache, ResultCache, endings
from nibt.app.limits import Deadline, Limits, Replaced
from nibt.app.methods import duration, facts_list
from nibt.app.request import ExplainRequest, Link, Mode, as_sentence, explain_steps
from nibt.data.images import SAMPLE, read_image, sample_captions, samples
from nibt.errors import BadInput, NibtError
from nibt.report.html.document import macros
from nibt.report.html.view import Failure, Panel, fragment
from nibt.report.image.layout import resized, uri

HELP = "help"
"""The address of the help page, relative to that of the page."""
_HTML = macros("render.html", "nibt.app")
INTRODUCTION = _HTML.introduction(HELP)
EMPTY = _HTML.empty()
notice = _HTML.notice
WAITING = _HTML.status("Waiting for the server")
"""What the page shows beside the button until the first update."""
_THUMBNAIL_SIZE = 160


class Update(NamedTuple):
    """The HTML of the results so far, None to leave the old ones, and of the message beside the button."""

    answer: str | None
    message: str = ""


def first_update(models: ModelCache, limits: Limits, values: Sequence[object]) -> Update:
    """Return the first update after a question: the captions in place of the last answer, or what is wrong."""
    try:
        request = ExplainRequest.of_values(values, limits)
        _check_times(_models_for(models, request), request, limits)
    except NibtError as error:
        return Update(None, _HTML.error(as_sentence(error)))
    return Update(_HTML.pending(request.captions), WAITING)


def answer_events(
    models: ModelCache,
    limits: Limits,
    results: ResultCache,
    values: Sequence[object],
    is_wanted: Callable[[], bool] = lambda: True,
) -> Iterator[Update]:
    """Yield the updates of the page, before and after each step of a computation."""
    try:
        request = ExplainRequest.of_values(values, limits)
        models = _models_for(models, request)
        link = Link.of(request)
        query = "" if link is None else link.query
        recalled = results.recall(query)
        if _is_pending(recalled):  # the rest is being computed for another visitor
            yield Update(_result(request, recalled, None), _HTML.status("Computing the regions of words"))
            recalled = results.recall(query)

        if recalled and not _is_pending(recalled):
            yield Update(_result(request, recalled, results))
        else:
            yield from _computed_events(
                models, limits, results=results, request=request, query=query, is_wanted=is_wanted
            )

        models.measure(request.model)  # the answer is on the page, and the times of methods follow
    except Replaced:
        return
    except NibtError as error:
        yield Update(None, _HTML.error(as_sentence(error)))


def _is_pending(panels: Sequence[Panel]) -> bool:
    """Return whether a result still lacks a part."""
    return any(panel.problem for panel in panels)


def _computed_events(
    models: ModelCache,
    limits: Limits,
    results: ResultCache,
    request: ExplainRequest,
    query: str,
    is_wanted: Callable[[], bool],
) -> Iterator[Update]:
    """Yield the updates of a request that is computed; with a link, its result is remembered under its query."""
    if models.get_loaded(request.model) is None:
        yield Update(None, _HTML.status(f"Loading {request.model}"))
    model = models.get(request.model)
    start = time.monotonic()
    _check_times(models, request, limits)

    def deadline(number: int) -> Deadline:
        return Deadline(limits.deadline(start, request.steps - 1 - number), is_wanted=is_wanted)

    # each step enters its own deadline: a deadline applies to one thread, and the next step may run in another one
    steps = explain_steps(request, model, deadline)
    names = [*request.methods, "the regions of words"][: request.steps]
    outcomes: list[Panel | Failure] = []
    for number, name in enumerate(names, 1):
        view = _result(request, outcomes, None) if outcomes else None
        yield Update(view, _HTML.status(f"Computing {name} ({number} of {len(names)})"))

        began = time.monotonic()
        outcomes = next(steps)
        if number <= len(request.methods) and isinstance(outcomes[-1], Panel):
            captions = len(request.captions) if request.mode == Mode.each else 1
            seconds = (time.monotonic() - began) / captions
            models.record(request.model, request.variant, name, seconds)

        panels = [outcome for outcome in outcomes if isinstance(outcome, Panel)]
        if query and len(panels) == len(outcomes) and number >= len(request.methods):
            results.remember(query, panels)

    if any(isinstance(outcome, Panel) for outcome in outcomes):
        yield Update(_result(request, outcomes, results))
    else:
        yield Update(EMPTY, _failures(outcomes))


def _models_for(models: ModelCache, request: ExplainRequest) -> ModelCache:
    """Return the models for the mode of a request, and check that its model is among them."""
    fitting = models.for_answers(request.mode == Mode.answer)
    if request.model in fitting.names or request.model not in models.all_names:
        return fitting

    needed = "a generator, which writes answers" if request.mode == Mode.answer else "a model that compares captions"
    raise BadInput(
        f"this mode needs {needed}, such as {fitting.names[0]}: choose one as the model (got {request.model})"
    )


def _check_times(models: ModelCache, request: ExplainRequest, limits: Limits) -> None:
    """Check that each method is likely to meet the time limit, if its model is loaded."""
    facts = models.facts(request.model, request.variant)
    count = len(request.captions) if request.mode == Mode.each else 1
    for method in request.methods:
        seconds = count * (facts[method].seconds or 0.0) if method in facts else 0.0
        if seconds > limits.timeout:
            raise BadInput(
                f"the method {method} would take about {duration(seconds)} for {count} caption{'s' * (count > 1)}, and "
                f"this page allows {limits.timeout:g} s: choose a faster method or fewer captions, or use nibt explain"
            )


def sample_buttons() -> str:
    """Return a button with a small image for each sample."""
    small = {name: uri(resized(read_image(SAMPLE + name).pil_image, _THUMBNAIL_SIZE), "JPEG") for name in samples()}
    return _HTML.samples([(name, sample_captions()[name], data) for name, data in small.items()])


def served_note(names: Sequence[str]) -> str:
    """Return which models are behind servers, which get the images; empty if none is."""
    if not names:
        return ""
    return str(_HTML.served(", ".join(names)))


def model_facts(models: ModelCache, name: object, variant: object, limits: Limits) -> str:
    """Return what ``methods.js`` shows beside the methods; empty if the model is not loaded."""
    facts = {}
    if isinstance(name, str):
        facts = models.facts(name, variant if isinstance(variant, str) else "default")
    return facts_list(facts, limits.timeout)


def _failures(outcomes: Sequence[Panel | Failure]) -> str:
    """Return the messages of methods that all failed."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    return "".join(_HTML.error(failure.message, failure.title if len(failures) > 1 else "") for failure in failures)


def _result(request: ExplainRequest, outcomes: Sequence[Panel | Failure], results: ResultCache | None) -> str:
    """Return the view of a result; with ``results`` it is complete and has downloads and, if possible, a link."""
    panels = [outcome for outcome in outcomes if isinstance(outcome, Panel)]
    if not panels:
        return _failures(outcomes)

    visible = []  # without warnings that advise what the page does not offer
    for outcome in outcomes:
        if isinstance(outcome, Panel):
            warnings = tuple(map(_without_options, outcome.answer.warnings))
            answer: Any = outcome.answer
            outcome = replace(outcome, answer=replace(answer, warnings=warnings))
        visible.append(outcome)

    view = fragment(visible, help_url=HELP)
    if results is None:
        return view

    token = results.store(panels)
    link = Link.of(request)
    return view + _HTML.saved(token, endings(panels), link.query if link else "")


def _without_options(warning: str) -> str:
    """Return a warning without options of the command and of Python.

    >>> _without_options("compare them with each other, or set a tolerance")
    'compare them with each other'
    """
    return re.sub(r"([:,] (or )?set a tolerance|; give [^;]*\(--[^;]*\))$", "", warning)
