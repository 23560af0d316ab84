"""How the page looks and what its buttons do: the only file with gradio."""

import json
import time
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Response
from gradio.themes import Base

from nibt.app.asked import Asked, Question, answered, costs, plainly
from nibt.app.limits import Deadline, Limits
from nibt.app.link import Link
from nibt.app.recent import FORMATS, Recent
from nibt.app.shelf import Shelf
from nibt.errors import NibtError
from nibt.pair import sample_file, samples
from nibt.report import view
from nibt.report.view import Panel

QUESTIONS = [("Each caption: what speaks for it", Question.each.value),
             ("The first caption rather than the second: what decides", Question.rather.value),
             ("Labels, one a line: which fits best, and why", Question.labels.value)]  # fmt: skip
_FONT = ["system-ui", "sans-serif"]
_HERE = files("nibt") / "app"


def page(shelf: Shelf, limits: Limits) -> FastAPI:
    """The whole page, unguarded."""
    recent = Recent(limits.kept)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/answer/{name}")
    def answer(name: str) -> Response:
        token, _, kind = name.partition(".")
        found = recent.file(token, kind)
        if found is None:
            return Response("This answer is no longer here: nothing is kept for long. Explain it again.", 404)
        return Response(found, media_type=FORMATS[kind],
                        headers={"content-disposition": f'attachment; filename="nibt.{kind}"'})  # fmt: skip

    blocks = _blocks(shelf, limits, recent)
    blocks.queue(max_size=limits.waiting, default_concurrency_limit=1, api_open=False)
    head = f"<script>{view.SCRIPT}</script><script>{_own('page.js')}</script>"
    return gr.mount_gradio_app(
        app, blocks, path="/", max_file_size=limits.upload, footer_links=[], run_history=False, ssr_mode=False,
        enable_monitoring=False, pwa=False, mcp_server=False, show_error=True, head=head,
        css=view.STYLE + _own("page.css"), theme=Base(font=_FONT, font_mono=["ui-monospace", "monospace"]),
    )  # fmt: skip


def _blocks(shelf: Shelf, limits: Limits, recent: Recent) -> gr.Blocks:
    """The fields, and what happens when they are used."""
    with gr.Blocks(title="nibt", analytics_enabled=False, delete_cache=(60, int(limits.kept))) as blocks:
        gr.HTML(_INTRODUCTION)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=280, elem_id="fields"):
                picture = gr.Image(label="Picture", type="filepath", sources=["upload", "clipboard", "webcam"],
                                   buttons=[], elem_id="picture")  # fmt: skip
                picture.preprocess = _path  # nibt reads it, with nibt's limits; a subclass would be taken for a plug-in
                given = [[str(sample_file(name))] for name in samples()]
                sample = gr.Dataset(components=[gr.Image(visible=False)], samples=given, type="index",
                                    label="Or a sample", elem_id="samples")  # fmt: skip
                captions = gr.Textbox(label="Captions, one a line", lines=2, max_lines=8, elem_id="captions",
                                      placeholder="a cat and a cup of coffee")  # fmt: skip
                fields = [picture, captions, *_choices(shelf)]
                with gr.Row():
                    go = gr.Button("Explain", variant="primary", elem_id="explain")
                    stop = gr.Button("Stop", elem_id="stop")
            with gr.Column(scale=3, min_width=300):
                answer = gr.HTML(_NOTHING, elem_id="answer", js_on_load=_own("answer.js"), padding=False)
        linked = gr.State(False)

        def explain(*values: Any, progress: gr.Progress = gr.Progress()) -> Iterator[str]:  # noqa: B008
            yield from told(shelf, limits, recent, values, progress)

        def opened(request: gr.Request) -> list[Any]:
            link = Link.read(dict(request.query_params), shelf.names, limits.characters)
            if link is None:
                return [*(gr.skip() for _ in fields), False]
            return [str(sample_file(link.picture)), link.captions, link.question, list(link.methods), link.model,
                    link.variant, True]  # fmt: skip

        def explain_linked(linked: bool, *values: Any) -> Iterator[Any]:
            yield from explain(*values) if linked else iter([gr.skip()])

        model: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress_on": answer}
        runs = [go.click(explain, fields, answer, **model), captions.submit(explain, fields, answer, **model)]
        sample.click(_sample, sample, [picture, captions], show_progress="hidden")
        opening = blocks.load(opened, None, [*fields, linked], show_progress="hidden")
        runs.append(opening.then(explain_linked, [linked, *fields], answer, **model))
        stop.click(None, cancels=runs)
    return blocks


def _choices(shelf: Shelf) -> list[Any]:
    """What can be chosen, in the order in which ``Asked.read`` takes it."""
    question = gr.Radio(QUESTIONS, value=Question.each.value, label="Question", elem_id="question")
    methods = gr.Dropdown([name for name, _ in costs()], value=["nib"], multiselect=True, elem_id="methods",
                          label="Methods; several stand beside each other")  # fmt: skip
    with gr.Accordion("What each method costs", open=False):
        gr.HTML(_costs())
    with gr.Accordion("Model and setting", open=False):
        model = gr.Dropdown(shelf.names, value=shelf.names[0], label="Model", elem_id="model")
        variant = gr.Radio([("nibt's default", "default"), ("as published, where that differs", "paper")],
                           value="default", label="Setting", elem_id="variant")  # fmt: skip
    return [question, methods, model, variant]


def told(shelf: Shelf, limits: Limits, recent: Recent, values: Any, progress: Any) -> Iterator[str]:
    """What the page shows in answer to its fields: all that is known so far, or what is wrong, in plain words."""
    try:
        file, captions, question, methods, model, variant = values
        progress(0, desc="Reading the picture")
        asked = Asked.read(Path(file) if file else None, captions or "", question, model, methods or [], variant, limits)
        progress(0, desc=f"Loading {model}")
        steps, end, done = answered(asked, shelf.model(model)), time.monotonic() + limits.seconds, 0
        while True:
            what = asked.methods[done] if done < len(asked.methods) else "which words go with which regions"
            progress((done, asked.steps), desc=f"Computing {what}")
            with Deadline(end):
                panels = next(steps, None)
            if panels is None:
                return
            done += 1
            yield _answer(asked, panels, recent if done == asked.steps else None)
            if done == asked.steps:
                return
    except NibtError as error:
        yield f'<div class="nibt-message" role="alert">{escape(plainly(error))}</div>'


def _answer(asked: Asked, panels: list[Panel], recent: Recent | None) -> str:
    """The view; once it is whole, with its downloads, and its link if anybody else has the picture, too."""
    if recent is None:
        return f'{view.fragment(panels)}<p class="nibt-more" role="status">More is being computed…</p>'
    token, link = recent.keep(panels), Link.to(asked)
    saved = " ".join(f'<a href="answer/{token}.{kind}" download="nibt.{kind}">{kind.upper()}</a>' for kind in FORMATS)
    shared = "" if link is None else f'<a class="nibt-link" href="?{escape(link.query)}">Link to this view</a>'
    return f'{view.fragment(panels)}<nav class="nibt-saved" aria-label="Save">Save as {saved} {shared}</nav>'


def _sample(number: int) -> tuple[str, str]:
    name = samples()[number]
    return str(sample_file(name)), _said(name)


def _costs() -> str:
    rows = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(cost)}</td></tr>" for name, cost in costs())
    return f'<table class="nibt-costs"><caption>In forward passes of one tower</caption>{rows}</table>'


def _path(upload: Any) -> str | None:
    return None if upload is None else upload.path


def _said(name: str) -> str:
    return json.loads((files("nibt") / "samples" / "captions.json").read_text(encoding="utf-8"))[name]


def _own(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


_INTRODUCTION = (
    '<header class="nibt-head"><h1>nibt</h1><p>Which parts of this picture, and which words of this caption, make the '
    "model think that they belong together? What you give is computed on the machine that serves this page, and "
    "forgotten within minutes.</p></header>"
)
_NOTHING = (
    '<div class="nibt-message">Give a picture and a caption, then press Explain. Click a word to see its region; mark '
    "a box on the picture to see its words.</div>"
)
