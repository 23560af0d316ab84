"""How the page looks and what its buttons do: the only file with gradio."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Response
from gradio.themes import Base

from nibt.app.cache import FORMATS, ResultCache
from nibt.app.limits import Limits
from nibt.app.link import Link
from nibt.app.models import ModelCache, SerialExecutor
from nibt.app.render import (
    INTRODUCTION,
    NOTHING,
    answer_events,
    cost_table,
    sample_buttons,
    sample_captions,
    unsupported_list,
)
from nibt.app.request import Mode, costs
from nibt.data.images import sample_file, samples
from nibt.report.html import view

QUESTIONS = [
    ("Each caption: what speaks for it", Mode.each.value),
    ("The first caption rather than the second: what decides", Mode.rather.value),
    ("Labels, one a line: which fits best, and why", Mode.labels.value),
]
_EXPLAIN_LINKED = "(captions) => { if (captions) document.querySelector('#explain').click(); }"


def page(shelf: ModelCache, limits: Limits) -> FastAPI:
    """The whole page, unguarded."""
    recent = ResultCache(limits.kept)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/answer/{name}")
    def answer(name: str) -> Response:
        token, _, kind = name.partition(".")
        content = recent.file(token, kind)
        if content is None:
            return Response("This answer is no longer here: nothing is kept for long. Explain it again.", 404)
        return Response(
            content, media_type=FORMATS[kind], headers={"content-disposition": f'attachment; filename="nibt.{kind}"'}
        )

    blocks = _blocks(shelf, limits, recent)
    blocks.state_session_capacity = max(64, 2 * limits.waiting)  # each holds its last answer, for an hour
    blocks.queue(max_size=limits.waiting, default_concurrency_limit=1, api_open=False)
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=limits.upload,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        show_error=True,
        css=view.STYLE + _own("page.css"),
        head=f"<script>{view.SCRIPT}</script><script>{_own('page.js')}</script>",
        theme=Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )


def _blocks(shelf: ModelCache, limits: Limits, recent: ResultCache) -> gr.Blocks:
    """The fields, and what happens when they are used."""
    turns = SerialExecutor()
    with gr.Blocks(title="nibt", analytics_enabled=False, delete_cache=(60, int(limits.kept))) as blocks:
        gr.HTML(INTRODUCTION)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=280, elem_id="fields"):
                image = gr.Image(
                    label="ImageInput",
                    type="filepath",
                    sources=["upload", "clipboard", "webcam"],
                    buttons=[],
                    elem_id="image",
                )
                sample = gr.HTML(sample_buttons(), elem_id="samples", js_on_load=_own("samples.js"), padding=False)
                captions = gr.Textbox(
                    label="Captions, one a line",
                    lines=2,
                    max_lines=8,
                    elem_id="captions",
                    placeholder="a cat and a cup of coffee",
                )
                question, methods, unable, model_name, variant = _choices(shelf)
                fields = [image, captions, question, methods, model_name, variant]
                with gr.Row():
                    go = gr.Button("Explain", variant="primary", elem_id="explain")
                    stop = gr.Button("Stop", elem_id="stop")
            with gr.Column(scale=3, min_width=300):
                answer = gr.HTML(
                    NOTHING, elem_id="answer", js_on_load=_own("answer.js"), padding=False, apply_default_css=False
                )

        def explain(*values: Any, progress: gr.Progress = gr.Progress()) -> Iterator[str]:  # noqa: B008
            upload, *others = values
            file = Path(upload["path"]) if upload else None
            steps = answer_events(
                shelf, limits, recent, [file, *others], lambda done, of, what: progress((done, of), desc=what)
            )
            yield from turns.each(steps)

        def opened(request: gr.Request) -> list[Any]:
            link = Link.read(dict(request.query_params), shelf.names, limits.characters)
            if link is None:
                return [gr.skip() for _ in fields]
            return [
                str(sample_file(link.image)),
                link.captions,
                link.question,
                list(link.methods),
                link.model,
                link.variant,
            ]

        # without preprocess the file arrives as it was uploaded, and nibt reads it, with nibt's limits and messages
        model: dict[str, Any] = {
            "concurrency_id": "model",
            "concurrency_limit": 1,
            "preprocess": False,
            "show_progress_on": answer,
        }
        # Outside of the queue, whose answers share one stream: it may close on an explanation that is asked for at the
        # very moment when another event ends, and its answer would never arrive.
        plain: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
        model_name.change(lambda name: unsupported_list(shelf, name), model_name, unable, **plain)
        sample.click(chosen, None, [image, captions], **plain)
        blocks.load(opened, None, fields, **plain).then(None, captions, None, js=_EXPLAIN_LINKED)
        runs: list[Any] = [
            go.click(explain, fields, answer, **model),
            captions.submit(explain, fields, answer, **model),
        ]
        for run in list(runs):  # a model that was loaded just now says what it cannot do
            run.then(lambda name: unsupported_list(shelf, name), model_name, unable, **plain)
        stop.click(None, cancels=runs)
    return blocks


def _choices(shelf: ModelCache) -> list[Any]:
    """Return the inputs of the page in the order of ``answer_events``; the third lists unsupported methods."""
    question = gr.Radio(QUESTIONS, value=Mode.each.value, label="Mode", elem_id="question")
    methods = gr.CheckboxGroup(
        [name for name, _ in costs()], value=["nib"], elem_id="methods", label="Methods (select several to compare)"
    )
    unable = gr.HTML(
        unsupported_list(shelf, shelf.names[0]), elem_id="unsupported", js_on_load=_own("methods.js"), padding=False
    )
    with gr.Accordion("What each method costs", open=False):
        gr.HTML(cost_table())
    with gr.Accordion("Model and setting", open=False):
        model = gr.Dropdown(shelf.names, value=shelf.names[0], label="Model", elem_id="model")
        variant = gr.Radio(
            [("nibt's default", "default"), ("as published, where that differs", "paper")],
            value="default",
            label="TargetContext",
            elem_id="variant",
        )
    return [question, methods, unable, model, variant]


def chosen(event: gr.EventData) -> tuple[Any, Any]:
    """The image and the caption of the sample that was clicked; nothing new if there is no such sample."""
    name = event._data.get("name") if isinstance(event._data, dict) else None
    return (str(sample_file(name)), sample_captions()[name]) if name in samples() else (gr.skip(), gr.skip())


def _own(name: str) -> str:
    return (files("nibt") / "app" / name).read_text(encoding="utf-8")
