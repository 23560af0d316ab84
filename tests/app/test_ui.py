"""Tests of ``nibt.app.ui``."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from nibt.app.cache import ModelCache, ResultCache
from nibt.app.limits import Limits
from nibt.data.images import sample_captions, sample_file

SCRIPT = """
from threading import Event
from types import SimpleNamespace
from nibt.app import events, ui
from nibt.app.limits import Limits
from nibt.app.cache import ModelCache
from nibt.app.render import Update
from nibt.data.images import sample_captions

wanted, began = [], Event()

def computed(models, limits, results, values, is_wanted):
    wanted.append(is_wanted)
    began.set()
    yield Update("answer")

events.answer_events = computed
blocks = ui._blocks(ModelCache(["lite"]), Limits(), ui.ResultCache(60.0))
assert began.wait(60)
ask = next(function.fn for function in blocks.fns.values() if function.api_name == "ask")
for captions in (sample_captions()["collage"], "a typed caption"):
    ask(SimpleNamespace(session_hash="visitor"), 1, None, captions, "each", ["nib"], "lite", "default", None)
    print(wanted[0]())
"""


@pytest.mark.slow
def test_visitor_does_not_wait_for_what_the_page_opens_with() -> None:
    if find_spec("gradio") is None:
        pytest.skip("the page needs gradio: pip install -e '.[app]'")
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=300)
    assert ended.stdout.split() == ["True", "False"]


@pytest.mark.slow
def test_link_with_a_mode_alone_opens_it() -> None:
    with_openings = pytest.importorskip("nibt.app.events").with_openings
    models = ModelCache(["lite"], generators=ModelCache(["writer"]))
    assert with_openings(models, {}) == {}
    assert with_openings(models, {"mode": "answer"}) == {
        "mode": "answer",
        "model": "writer",
        "methods": "nib",
        "image": "scene",
        "captions": "what is left of the house ?",
    }
    assert with_openings(models, {"mode": "contrast"})["captions"] == "a cat\na dog"
    query = {"mode": "labels", "captions": "x\ny", "image": "coffee", "model": "scenes"}
    assert with_openings(models, query) == {**query, "methods": "nib"}
    assert with_openings(models, {"mode": "z"}) == {"mode": "z"}


@pytest.mark.slow
def test_mode_of_answers_opens_with_a_prompt_unless_the_visitor_gave_something(tmp_path: Path) -> None:
    gr, open_mode = pytest.importorskip("gradio"), pytest.importorskip("nibt.app.events").open_mode
    collage, caption, kept = sample_file("collage"), sample_captions()["collage"], (gr.skip(), gr.skip())
    image, prompt = open_mode(collage, caption, "answer")
    assert (Path(image).stem, prompt) == ("scene", "what is left of the house ?")
    image, again = open_mode(Path(image), prompt, "each")
    assert (Path(image).stem, again) == ("collage", caption)
    (tmp_path / "mine.png").write_bytes(b"a photograph")
    for file in (tmp_path / "mine.png", sample_file("coffee"), None, "photo.png"):
        for mode in ("answer", "each", "labels"):
            assert all(open_mode(file, text, mode) == kept for text in (caption, prompt, "", "my words"))
    assert all(open_mode(collage, text, "answer") == kept for text in ("", "my own words"))


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_replaced_in_words_and_comes_back() -> None:
    gr, events = pytest.importorskip("gradio"), pytest.importorskip("nibt.app.events")
    models = ModelCache(["lite", "scenes"], generators=ModelCache(["writer", "other"]))
    fit_model = events.Events(models, Limits(), ResultCache(60.0)).fit_model
    name, earlier, message = fit_model("answer", "scenes", "")
    assert (name, earlier) == ("writer", "scenes")
    assert "The model is now writer, since scenes does not write answers." in message
    assert fit_model("labels", "writer", "scenes")[:2] == ("scenes", "writer")
    assert fit_model("labels", "lite", "other") == (gr.skip(),) * 3
