"""Tests of ``nibt.app.ui``."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from nibt.app.models import ModelCache
from nibt.data.images import sample_captions

SCRIPT = """
from threading import Event
from types import SimpleNamespace
from nibt.app import ui
from nibt.app.limits import Limits
from nibt.app.models import ModelCache
from nibt.app.render import Update
from nibt.data.images import sample_captions

wanted, began = [], Event()

def computed(models, limits, results, values, is_wanted):
    wanted.append(is_wanted)
    began.set()
    yield Update("answer")

ui.answer_events = computed
blocks = ui._blocks(ModelCache(["lite"]), Limits(), ui.ResultCache(60.0))
began.wait()
ask = next(function.fn for function in blocks.fns.values() if function.api_name == "ask")
for captions in (sample_captions()["collage"], "a typed caption"):
    ask(SimpleNamespace(session_hash="visitor"), 1, None, captions, "each", ["nib"], "lite", "default")
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
    with_openings = pytest.importorskip("nibt.app.ui").with_openings
    models = ModelCache(["lite"], generators=ModelCache(["writer"]))
    assert with_openings(models, {}) == {}
    assert with_openings(models, {"mode": "answer"}) == {
        "mode": "answer",
        "model": "writer",
        "image": "scene",
        "captions": "what is left of the house ?",
    }
    assert with_openings(models, {"mode": "contrast"})["captions"] == "a cat\na dog"
    query = {"mode": "labels", "captions": "x\ny", "image": "coffee", "model": "scenes"}
    assert with_openings(models, query) == query
    assert with_openings(models, {"mode": "z"}) == {"mode": "z"}


@pytest.mark.slow
def test_mode_of_answers_opens_with_a_prompt_unless_the_visitor_wrote_one() -> None:
    gr, opening_of = pytest.importorskip("gradio"), pytest.importorskip("nibt.app.ui").opening_of
    image, prompt = opening_of("answer", sample_captions()["collage"])
    assert (Path(image).stem, prompt) == ("scene", "what is left of the house ?")
    image, caption = opening_of("each", prompt)
    assert (Path(image).stem, caption) == ("collage", sample_captions()["collage"])
    assert opening_of("answer", "my own words")[1] == gr.skip()
