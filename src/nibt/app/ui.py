"""The components of the page and their events. This is the only file that imports gradio."""

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Response
from gradio.themes import Base

from nibt.app.cache import FORMATS, ModelCache, ResultCache, SerialExecutor
from nibt.app.guide import help_page
from nibt.app.limits import Limits, Questions
from nibt.app.methods import DEFAULT, method_fields
from nibt.app.render import (
    EMPTY,
    HELP,
    INTRODUCTION,
    WAITING,
    answer_events,
    first_update,
    model_facts,
    notice,
    sample_buttons,
    sample_captions,
)
from nibt.app.request import Link, Mode
from nibt.data.images import sample_file, samples
from nibt.io import read_text
from nibt.report.html import view

MODES = [
    ("Explain each caption", Mode.each.value),
    ("Compare two captions", Mode.contrast.value),
    ("Rank labels", Mode.labels.value),
    ("Explain an answer", Mode.answer.value),
]
CAPTIONS = {
    Mode.each.value: ("Captions, one per line", "a cat and a cup of coffee"),
    Mode.contrast.value: ("Two captions, one per line: why the first rather than the second?", "a cat\na dog"),
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
_KNOWN = """<p class="nibt-label">lite knows ImageNet's classes, lite:256 is faster; scenes and scenes_generator
know drawn scenes only.</p>"""
_PREPARATION = "preparation"
"""The visitor who asks for what the page opens with, before others do."""
_NEXT_NUMBER = "() => ++nibtPage.question"
_ASK = f"() => [++nibtPage.question, {json.dumps(WAITING)}]"
_PLAIN: dict[str, Any] = {"padding": False, "apply_default_css": False}
_TAKE_LINKED = "(linked, text, image, captions) => image || captions ? [image, captions] : [linked, text]"
_EXPLAIN_LINKED = "(captions) => { if (captions) document.querySelector('#explain').click(); }"


def page(models: ModelCache, limits: Limits) -> FastAPI:
    """Return the app of the page, which needs a ``Guard`` in front of it."""
    results = ResultCache(limits.retention)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    guide = help_page()

    @app.get(f"/{HELP}")
    def show_help() -> Response:
        return Response(guide, media_type=FORMATS["html"].media_type)

    @app.get("/answer/{name}")
    def download(name: str) -> Response:
        token, _, ending = name.partition(".")
        content = results.export(token, ending)
        if content is None:
            return Response(
                "This result was deleted, since results are kept only for a while. Explain the image again.", 404
            )
        headers = {"content-disposition": f'attachment; filename="nibt.{ending}"'}
        return Response(content, media_type=FORMATS[ending].media_type, headers=headers)

    blocks = _blocks(models, limits, results)
    blocks.state_session_capacity = max(64, 2 * limits.max_queue)  # each keeps its last result for an hour
    blocks.queue(max_size=limits.max_queue, default_concurrency_limit=1, api_open=False)
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=limits.max_upload_bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        show_error=True,
        css=view.STYLE + _read_file("page.css"),
        head=f"<script>{view.SCRIPT}</script><script>{_read_file('page.js')}</script>",
        theme=Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )


def _blocks(models: ModelCache, limits: Limits, results: ResultCache) -> gr.Blocks:
    executor, questions = SerialExecutor(), Questions()
    opening = Link(_OPENING, sample_captions()[_OPENING], Mode.each, models.names[0], (DEFAULT,), "default")
    with gr.Blocks(
        title="nibt", analytics_enabled=False, fill_width=True, delete_cache=(60, int(limits.retention))
    ) as blocks:
        gr.HTML(INTRODUCTION, **_PLAIN)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=280, elem_id="fields"):
                image, sample, captions, mode = _inputs()
                with gr.Row(elem_id="buttons"):
                    explain_button = gr.Button("Explain", variant="primary", elem_id="explain")
                    stop_button = gr.Button("Stop", elem_id="stop")
                message = gr.HTML("", elem_id="message", **_PLAIN)
                number = gr.Number(0, elem_id="question", visible="hidden")
                methods, facts, model_name, variant = _choices(models, limits)
                fields = [image, captions, mode, methods, model_name, variant]
            with gr.Column(scale=3, min_width=300, elem_id="result"):
                answer = gr.HTML(EMPTY, elem_id="answer", js_on_load=_read_file("answer.js"), **_PLAIN)

        def ask(request: gr.Request, number: Any, *values: Any) -> Any:
            update = first_update(models, limits, _with_path(values))
            if list(values[1:]) != opening.values:
                questions.leave(_PREPARATION)  # the visitor need not wait for what the page opens with
            questions.ask(_visitor(request), _number(number))  # also a wrong one stops the last
            return gr.skip() if update.answer is None else update.answer, update.message

        def explain(request: gr.Request, number: Any, *values: Any) -> Iterator[Any]:
            visitor, question = _visitor(request), _number(number)
            is_wanted = partial(questions.is_latest, visitor, question)
            if not questions.start(visitor, question):
                yield gr.skip(), gr.skip()
                return
            for update in executor.iterate(answer_events(models, limits, results, _with_path(values), is_wanted)):
                if not is_wanted():
                    break
                yield (
                    gr.skip() if update.answer is None else f'<div data-question="{question}">{update.answer}</div>',
                    update.message,
                )
            if not is_wanted():
                yield gr.skip(), gr.skip()  # gradio sends the last update again at the end

        def leave(request: gr.Request) -> None:
            questions.leave(_visitor(request))

        def stop(request: gr.Request, number: Any) -> str:
            questions.ask(_visitor(request), _number(number))
            return ""

        def prepare() -> None:
            """Compute what the page opens with, without a time limit, until a visitor asks for something else."""
            unlimited = replace(limits, timeout=math.inf)
            values = [sample_file(opening.image), *opening.values]
            is_wanted = partial(questions.is_latest, _PREPARATION, 0)
            updates = answer_events(models, unlimited, results, values, is_wanted)
            # loading and the first map are one step: a visitor who comes between would compute the same map again
            maps = (update for update in updates if update.answer is not None)
            with suppress(RuntimeError):  # a server that is stopped starts no further step
                for update in executor.iterate(maps):
                    if not update.message:
                        break

        def read_link(request: gr.Request) -> list[Any]:
            link = Link.from_query(with_openings(models, request.query_params), models.all_names, limits.characters)
            link = link or opening
            return [str(sample_file(link.image)), *link.values]

        # without preprocessing the file is passed as it was uploaded; nibt reads it with its own limits and messages
        queued: dict[str, Any] = {
            "concurrency_id": "model",
            "concurrency_limit": 1,
            "preprocess": False,
            "show_progress": "hidden",  # the overlay of gradio would hide the results that are complete
        }
        # These events bypass the queue. Its results share one stream, which closes when an event ends; the result of an
        # explanation that starts at that moment would be lost.
        immediate: dict[str, Any] = {"queue": False, "show_progress": "hidden"}

        def show_facts(name: Any, setting: Any) -> str:
            return model_facts(models, name, setting, limits)

        selection = [model_name, variant]
        for choice in selection:
            choice.change(show_facts, selection, facts, **immediate)
        mode.change(describe_captions, mode, captions, **immediate)
        earlier = gr.State("")  # the model that was selected before the mode needed another one
        mode.change(
            lambda upload, *values: opening_of(*_with_path([upload, *values])),
            [image, captions, mode],
            [image, captions],
            preprocess=False,
            **immediate,
        )
        mode.change(
            partial(fitting_model, models), [mode, model_name, earlier], [model_name, earlier, message], **immediate
        )
        sample.click(load_sample, None, [image, captions], **immediate)
        questions.ask(_PREPARATION, 0)
        threading.Thread(target=prepare, name="nibt-opening", daemon=True).start()
        linked = [gr.Image(type="filepath", visible="hidden"), gr.Textbox(visible="hidden")]
        # the browser, not the server, takes them over, since a visitor may be faster than the answer of the server
        blocks.load(read_link, None, [*linked, *fields[2:]], **immediate).then(
            None, [*linked, image, captions], [image, captions], js=_TAKE_LINKED
        ).then(None, captions, None, js=_EXPLAIN_LINKED)
        # A question gets its number in the browser. The server then ends the computation of the last one, and the next
        # starts as soon as gradio has the end of the last: with "once", its default, gradio would drop the click.
        (
            gr.on(
                [explain_button.click, captions.submit], None, None, [number, message], js=_ASK, show_progress="hidden"
            )
            .then(ask, [number, *fields], [answer, message], preprocess=False, trigger_mode="multiple", **immediate)
            .success(explain, [number, *fields], [answer, message], trigger_mode="always_last", **queued)
            .then(show_facts, selection, facts, **immediate)  # the model was loaded, and the method's time is known
        )
        blocks.load(show_facts, selection, facts, **immediate)
        blocks.unload(leave)
        stop_button.click(None, None, number, js=_NEXT_NUMBER, show_progress="hidden").then(
            stop, number, message, **immediate
        )
    return blocks


def _with_path(values: Sequence[Any]) -> list[Any]:
    """Return the values of the fields, with the path of the uploaded file in place of its description."""
    upload, *others = values
    return [Path(upload["path"]) if upload else None, *others]


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)


def _number(value: Any) -> int:
    """Return the number of a question, which may come from any client."""
    return value if isinstance(value, int) else 0


def _inputs() -> list[Any]:
    """Return the components for the image, the samples, the captions and the mode."""
    image = gr.Image(
        label="Image",
        type="filepath",
        sources=["upload", "clipboard", "webcam"],
        buttons=[],
        height=190,
        elem_id="image",
    )
    sample = gr.HTML(sample_buttons(), elem_id="samples", js_on_load=_read_file("samples.js"), **_PLAIN)
    mode = gr.Radio(MODES, value=Mode.each.value, label="What to do", show_label=False, elem_id="mode")
    label, placeholder = CAPTIONS[Mode.each.value]
    captions = gr.Textbox(label=label, lines=2, max_lines=6, elem_id="captions", placeholder=placeholder)
    return [image, sample, captions, mode]


def describe_captions(mode: Any) -> Any:
    """Return the label and the placeholder of the captions in a mode; no changes if there is no such mode."""
    if not isinstance(mode, str) or mode not in CAPTIONS:
        return gr.skip()
    label, placeholder = CAPTIONS[mode]
    return gr.Textbox(label=label, placeholder=placeholder)


def opening_of(file: Path | None, captions: Any, mode: Any) -> Any:
    """Return the image and captions with which a mode opens, in place of those that the page itself gave."""
    openings = [_OF_ANSWERS, (_OPENING, sample_captions()[_OPENING])]
    opening, before = openings if mode == Mode.answer.value else openings[::-1]
    is_own = file is not None and file.is_file() and file.read_bytes() == sample_file(before[0]).read_bytes()
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
    return {"model": models.for_answers(mode == Mode.answer.value).names[0], **opening, **query} if query else {}


def fitting_model(models: ModelCache, mode: Any, name: Any, earlier: Any) -> Any:
    """Return the model for a mode, the one that it replaces, and a message that says so.

    A selected model that does not fit is replaced by the one that was selected earlier, or by the first one that fits.
    """
    names = models.for_answers(mode == Mode.answer.value).names
    if name in names:
        return gr.skip(), gr.skip(), gr.skip()
    fitting, does = (
        earlier if earlier in names else names[0],
        "write answers" if mode == Mode.answer.value else "rate captions",
    )
    return fitting, name, notice(f"The model is now {fitting}, since {name} does not {does}.")


def _choices(models: ModelCache, limits: Limits) -> list[Any]:
    """Return the components for methods, their facts, the model and the variant."""
    methods = gr.HTML(
        [DEFAULT],
        html_template="${fields}",
        fields=method_fields(),
        elem_id="methods",
        js_on_load=_read_file("methods.js"),
        **_PLAIN,
    )
    facts = gr.HTML(model_facts(models, models.names[0], "default", limits), elem_id="facts", visible="hidden")
    gr.HTML(_KNOWN, elem_id="known", **_PLAIN)
    with gr.Accordion("Model and setting", open=False, elem_id="setting"):
        model = gr.Dropdown(models.all_names, value=models.names[0], label="Model", elem_id="model")
        variant = gr.Radio(
            [
                ("Defaults of nibt", "default"),
                ("Fast: nib with one step, whose scores are relative", "fast"),
                ("As published, if that differs", "paper"),
            ],
            value="default",
            label="Setting",
            elem_id="variant",
        )
    return [methods, facts, model, variant]


def load_sample(event: gr.EventData) -> tuple[Any, Any]:
    """Return the image and the caption of the sample that was clicked; no changes if there is no such sample."""
    name = event._data.get("name") if isinstance(event._data, dict) else None
    return (str(sample_file(name)), sample_captions()[name]) if name in samples() else (gr.skip(), gr.skip())


def _read_file(name: str) -> str:
    return read_text(files("nibt") / "app" / name)
