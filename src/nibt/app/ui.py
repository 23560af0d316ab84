"""The components of the page. Only this file and that of its events import gradio."""

import json
from importlib.resources import files
from typing import Any

import gradio as gr
from fastapi import FastAPI, Response
from gradio.themes import Base

from nibt.app.cache import FORMATS, ModelCache, ResultCache
from nibt.app.events import CAPTIONS, Events, describe_captions, load_sample, open_mode, show_against
from nibt.app.limits import Limits
from nibt.app.methods import DEFAULT, help_page, method_fields
from nibt.app.render import EMPTY, HELP, INTRODUCTION, WAITING, model_facts, sample_buttons, served_note
from nibt.app.request import Mode
from nibt.io import read_text
from nibt.report.html import view

MODES = [
    ("Explain each caption", Mode.each.value),
    ("Compare two captions", Mode.contrast.value),
    ("Compare two images", Mode.images.value),
    ("Rank labels", Mode.labels.value),
    ("Explain an answer", Mode.answer.value),
]
_KNOWN = """<p class="nibt-label">lite knows ImageNet's classes, lite:256 is faster; scenes and scenes_generator
know drawn scenes only.</p>"""
_NEXT_NUMBER = "() => ++nibtPage.question"
_ASK = f"() => [++nibtPage.question, {json.dumps(WAITING)}]"
_PLAIN: dict[str, Any] = {"padding": False, "apply_default_css": False}
# Without preprocessing the file is passed as it was uploaded; nibt reads it with its own limits and messages. The
# overlay of gradio would hide the results that are complete.
_QUEUED: dict[str, Any] = {
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "preprocess": False,
    "show_progress": "hidden",
}
# These events bypass the queue. Its results share one stream, which closes when an event ends; the result of an
# explanation that starts at that moment would be lost.
_IMMEDIATE: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
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
    events = Events(models, limits, results)
    with gr.Blocks(
        title="nibt", analytics_enabled=False, fill_width=True, delete_cache=(60, int(limits.retention))
    ) as blocks:
        gr.HTML(INTRODUCTION, **_PLAIN)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=280, elem_id="fields"):
                image, sample, captions, mode, against = _inputs()
                with gr.Row(elem_id="buttons"):
                    explain_button = gr.Button("Explain", variant="primary", elem_id="explain")
                    stop_button = gr.Button("Stop", elem_id="stop")

                message = gr.HTML("", elem_id="message", **_PLAIN)
                number = gr.Number(0, elem_id="question", visible="hidden")
                methods, facts, model_name, variant = _choices(models, limits)
                fields = [image, captions, mode, methods, model_name, variant, against]
            with gr.Column(scale=3, min_width=300, elem_id="result"):
                answer = gr.HTML(EMPTY, elem_id="answer", js_on_load=_read_file("answer.js"), **_PLAIN)

        selection = [model_name, variant]
        for choice in selection:
            choice.change(events.show_facts, selection, facts, **_IMMEDIATE)
        mode.change(describe_captions, mode, captions, **_IMMEDIATE)
        mode.change(open_mode, [image, captions, mode], [image, captions], preprocess=False, **_IMMEDIATE)
        earlier = gr.State("")  # the model that was selected before the mode needed another one
        mode.change(events.fit_model, [mode, model_name, earlier], [model_name, earlier, message], **_IMMEDIATE)
        sample.click(load_sample, None, [image, captions], **_IMMEDIATE)
        mode.change(show_against, mode, against, preprocess=False, **_IMMEDIATE)
        events.start_preparation()
        linked = [gr.Image(type="filepath", visible="hidden"), gr.Textbox(visible="hidden")]
        # the browser, not the server, takes them over, since a visitor may be faster than the answer of the server
        blocks.load(events.read_link, None, [*linked, *fields[2:]], **_IMMEDIATE).then(
            None, [*linked, image, captions], [image, captions], js=_TAKE_LINKED
        ).then(None, captions, None, js=_EXPLAIN_LINKED)
        # A question gets its number in the browser. The server then ends the computation of the last one, and the next
        # starts as soon as gradio has the end of the last: with "once", its default, gradio would drop the click.
        (
            gr.on(
                [explain_button.click, captions.submit], None, None, [number, message], js=_ASK, show_progress="hidden"
            )
            .then(
                events.ask,
                [number, *fields],
                [answer, message],
                preprocess=False,
                trigger_mode="multiple",
                **_IMMEDIATE,
            )
            .success(events.explain, [number, *fields], [answer, message], trigger_mode="always_last", **_QUEUED)
            # the model was loaded, and the method's time is known
            .then(events.show_facts, selection, facts, **_IMMEDIATE)
        )
        blocks.load(events.show_facts, selection, facts, **_IMMEDIATE)
        blocks.unload(events.leave)
        stop_button.click(None, None, number, js=_NEXT_NUMBER, show_progress="hidden").then(
            events.stop, number, message, **_IMMEDIATE
        )
    return blocks


def _inputs() -> list[Any]:
    """Return the components for the image, the samples, the captions, the mode and the other image."""
    settings: dict[str, Any] = {
        "type": "filepath",
        "sources": ["upload", "clipboard", "webcam"],
        "buttons": [],
        "height": 190,
    }
    image = gr.Image(label="Image", elem_id="image", **settings)
    sample = gr.HTML(sample_buttons(), elem_id="samples", js_on_load=_read_file("samples.js"), **_PLAIN)
    mode = gr.Radio(MODES, value=Mode.each.value, label="What to do", show_label=False, elem_id="mode")
    label, placeholder = CAPTIONS[Mode.each.value]
    captions = gr.Textbox(label=label, lines=2, max_lines=6, elem_id="captions", placeholder=placeholder)
    against = gr.Image(label="Other image", visible="hidden", elem_id="against", **settings)
    return [image, sample, captions, mode, against]


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
    gr.HTML(_KNOWN + served_note(models.served), elem_id="known", **_PLAIN)
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


def _read_file(name: str) -> str:
    return read_text(files("nibt") / "app" / name)
