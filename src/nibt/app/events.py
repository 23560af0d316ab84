"""What the page does when a visitor asks, changes a field or leaves."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from nibt.app.cache import ModelCache, ResultCache, in_thread
from nibt.app.limits import Limits, Questions
from nibt.app.methods import DEFAULT
from nibt.app.render import answer_events, first_update, model_facts, notice, sample_captions
from nibt.app.request import Link, Mode
from nibt.data.images import sample_file, samples
from nibt.models._loaded import default_method

CAPTIONS = {
    Mode.each.value: ("Captions, one per line", "a cat and a cup of coffee"),
    Mode.contrast.value: ("Two captions, one per line: why the first rather than the second?", "a cat\na dog"),
    Mode.images.value: ("A caption: why does the image match it better than the other image?", "a cat"),
    Mode.labels.value: ("Labels, one per line", "cat\ndog\ncup"),
    Mode.answer.value: (
        "A prompt, and on a second line an answer, unless the model is to write it",
        "what is left of the house ?\nhamburger",
    ),
}
"""The label and the placeholder of the captions in each mode."""
_OPENING = "collage"
"""The sample that the page opens with."""
_OF_ANSWERS = "scene", "what is left of the house ?"
"""The sample and the prompt of the mode of answers: the embedded generator knows drawn scenes only."""
AGAINST = "coffee"
"""The sample that the mode of two images opens with as the other image."""
_PREPARATION = "preparation"
"""The visitor who asks for what the page opens with, before others do."""


class Events:
    """The events of the page, with the questions of its visitors."""

    def __init__(self, models: ModelCache, limits: Limits, results: ResultCache) -> None:
        self._models = models
        self._limits = limits
        self._results = results
        self._questions = Questions()
        self._thread = ThreadPoolExecutor(1, "nibt-compute")  # all computations reuse the same memory
        self._opening = Link(
            _OPENING,
            sample_captions()[_OPENING],
            mode=Mode.each,
            model=models.names[0],
            methods=(DEFAULT,),
            variant="default",
        )

    def ask(self, request: gr.Request, number: object, *values: object) -> Any:
        """Check a question, and end the last one of this visitor."""
        update = first_update(self._models, self._limits, _with_path(values))
        if list(values[1:-1]) != self._opening.values[:-1]:  # the last is a file, which is another one for each visitor
            self._questions.leave(_PREPARATION)  # the visitor need not wait for what the page opens with
        self._questions.ask(_visitor(request), _number(number))  # also a wrong one stops the last
        return gr.skip() if update.answer is None else update.answer, update.message

    def explain(self, request: gr.Request, number: object, *values: object) -> Iterator[Any]:
        """Yield the results of a question as they are computed, while it is the latest of this visitor."""
        visitor = _visitor(request)
        question = _number(number)
        is_wanted = partial(self._questions.is_latest, visitor, question)
        if not self._questions.start(visitor, question):
            yield gr.skip(), gr.skip()
            return

        answers = answer_events(
            self._models, self._limits, results=self._results, values=_with_path(values), is_wanted=is_wanted
        )
        for update in in_thread(self._thread, answers):
            if not is_wanted():
                break
            yield (
                gr.skip() if update.answer is None else f'<div data-question="{question}">{update.answer}</div>',
                update.message,
            )

        if not is_wanted():
            yield gr.skip(), gr.skip()  # gradio sends the last update again at the end

    def leave(self, request: gr.Request) -> None:
        """End the questions of a visitor who leaves."""
        self._questions.leave(_visitor(request))

    def stop(self, request: gr.Request, number: object) -> str:
        """End the question of a visitor, and clear the message."""
        self._questions.ask(_visitor(request), _number(number))
        return ""

    def start_preparation(self) -> None:
        """Compute what the page opens with, until a visitor asks for something else."""
        self._questions.ask(_PREPARATION, 0)
        threading.Thread(target=self._prepare, name="nibt-opening", daemon=True).start()

    def _prepare(self) -> None:
        unlimited = replace(self._limits, timeout=math.inf)
        values = [sample_file(self._opening.image), *self._opening.values]
        is_wanted = partial(self._questions.is_latest, _PREPARATION, 0)
        updates = answer_events(self._models, unlimited, results=self._results, values=values, is_wanted=is_wanted)
        # loading and the first map are one step: a visitor who comes between would compute the same map again
        maps = (update for update in updates if update.answer is not None)
        with suppress(RuntimeError):  # a server that is stopped starts no further step
            for update in in_thread(self._thread, maps):
                if not update.message:
                    break

    def read_link(self, request: gr.Request) -> list[Any]:
        """Return the values of the fields that a link has, or those that the page opens with."""
        query = with_openings(self._models, request.query_params)
        link = Link.from_query(query, self._models.all_names, self._limits.characters) or self._opening
        *values, against = link.values
        return [str(sample_file(link.image)), *values, against or str(sample_file(AGAINST))]

    def show_facts(self, name: object, setting: object) -> str:
        """Return what the page says of a model in a setting."""
        return model_facts(self._models, name, setting, self._limits)

    def fit_model(self, mode: object, name: object, earlier: object) -> Any:
        """Return the model for a mode, the one that it replaces, and a message that says so.

        A selected model that does not fit is replaced by the one that was selected earlier, or by the first that fits.
        """
        names = self._models.for_answers(mode == Mode.answer.value).names
        if name in names:
            return gr.skip(), gr.skip(), gr.skip()

        fitting = earlier if earlier in names else names[0]
        does = "write answers" if mode == Mode.answer.value else "rate captions"
        return fitting, name, notice(f"The model is now {fitting}, since {name} does not {does}.")


def _with_path(values: Sequence[object]) -> list[object]:
    """Return the values of the fields, with the paths of uploaded files in place of their descriptions."""
    return [Path(value["path"]) if isinstance(value, dict) else value for value in values]


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)


def _number(value: object) -> int:
    """Return the number of a question, which may come from any client."""
    return value if isinstance(value, int) else 0


def describe_captions(mode: object) -> Any:
    """Return the label and the placeholder of the captions in a mode; no changes if there is no such mode."""
    if not isinstance(mode, str) or mode not in CAPTIONS:
        return gr.skip()
    label, placeholder = CAPTIONS[mode]
    return gr.Textbox(label=label, placeholder=placeholder)


def show_against(mode: object) -> Any:
    """Return the field of the other image, which only the mode of two images shows."""
    return gr.Image(visible=True if mode == Mode.images.value else "hidden")


def open_mode(upload: object, captions: object, mode: object) -> Any:
    """Return the image and captions with which a mode opens, in place of those that the page itself gave."""
    (file,) = _with_path([upload])
    openings = [_OF_ANSWERS, (_OPENING, sample_captions()[_OPENING])]
    opening, before = openings if mode == Mode.answer.value else openings[::-1]
    is_own = isinstance(file, Path) and file.is_file() and file.read_bytes() == sample_file(before[0]).read_bytes()
    return (str(sample_file(opening[0])), opening[1]) if is_own and captions == before[1] else (gr.skip(), gr.skip())


def with_openings(models: ModelCache, query: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a link, with what its mode opens with in place of what it leaves out."""
    mode = query.get("mode", Mode.each.value)
    if mode not in CAPTIONS:
        return dict(query)

    if mode == Mode.answer.value:
        image, captions = _OF_ANSWERS
    else:
        image = _OPENING
        captions = sample_captions()[_OPENING] if mode == Mode.each.value else CAPTIONS[mode][1]

    opening = {"image": image, "captions": captions} if "captions" not in query else {}
    opening |= {"against": AGAINST} if mode == Mode.images.value else {}
    fitting = models.for_answers(mode == Mode.answer.value)
    name = query.get("model", fitting.names[0])
    methods = default_method(fitting.get_loaded(name))
    return {"model": name, "methods": methods, **opening, **query} if query else {}


def load_sample(event: gr.EventData) -> tuple[Any, Any]:
    """Return the image and the caption of the sample that was clicked; no changes if there is no such sample."""
    name = event._data.get("name") if isinstance(event._data, dict) else None
    return (str(sample_file(name)), sample_captions()[name]) if name in samples() else (gr.skip(), gr.skip())
