"""Tests of ``nibt.app.render``."""

import json
import re
from itertools import count
from typing import Any

import pytest

import nibt
from nibt.app.cache import ModelCache, ResultCache
from nibt.app.limits import Deadline, TimeLimitExceeded
from nibt.app.methods import ForwardTime
from nibt.app.render import EMPTY, answer_events, first_update, model_facts
from nibt.app.request import ExplainRequest, Link, explain_steps
from nibt.data.images import sample_file
from nibt.models.base import Model
from nibt.report.html.view_data import rounded
from tests import tiny
from tests.app.requests import LIMITS, make_request
from tests.shared_models import module_state
from tests.suites import few


@pytest.mark.slow
def test_page_keeps_finished_outcomes(scenes: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each step, finished outcomes stay on the page, whatever fails later and for whatever reason."""
    own = nibt.app.request._explain

    def failing(request: ExplainRequest, model: Model, method: str) -> Any:
        if method == "occlusion":
            raise TimeLimitExceeded("this takes longer than it may")
        if method == "rise":
            raise RuntimeError("not enough memory: secret detail")
        return own(request, model, method)

    monkeypatch.setattr("nibt.app.request._explain", failing)
    quick = {side: ForwardTime(1e-3, 10) for side in ("image", "text")}
    models = ModelCache(["scenes"], load=lambda name: scenes, measure=lambda model: quick)  # type: ignore[arg-type]
    results = ResultCache(60.0)
    fields = [sample_file("coffee"), "a cat", "each", ["nib", "occlusion", "rise", "grad_cam"], "scenes", "default"]
    updates = list(answer_events(models, LIMITS, results, fields))
    messages = [update.message for update in updates]
    names = ["scenes", "nib", "occlusion", "rise", "grad_cam", "the regions of words"]
    assert "Computing nib (1 of 5)" in messages[1]
    assert all(name in message for name, message in zip(names, messages, strict=False))
    assert messages[-1] == ""
    views = [update.answer for update in updates if update.answer is not None]
    assert len(views) == 5
    assert all("nib: a cat</h2>" in view for view in views)
    pending = ["their regions are still being computed" in view for view in views]
    assert pending == [True, True, True, True, False]
    headings = ["nib: a cat</h2>", "occlusion</h2>", "rise</h2>", "grad_cam: a cat</h2>"]
    places = [views[-1].index(heading) for heading in headings]
    assert places == sorted(places)
    assert "This takes longer than it may." in views[-1]
    assert "RuntimeError" in views[-1]
    assert "secret detail" not in views[-1]
    assert "Save as" in views[-1]
    fields[3] = ["occlusion"]
    *_, last = answer_events(models, LIMITS, results, fields)
    assert last.answer == EMPTY
    assert 'role="alert"' in last.message
    assert "This takes longer than it may." in last.message


def test_page_keeps_the_last_answer_if_a_field_is_wrong(scenes: Model) -> None:
    models, results = ModelCache(["scenes"], load=lambda name: scenes), ResultCache(60.0)
    fields = [sample_file("coffee"), "", "each", ["nib"], "scenes", "default"]
    (update,) = answer_events(models, LIMITS, results, fields)
    assert update.answer is None
    assert 'role="alert"' in update.message
    assert "Write a caption first" in update.message


@pytest.mark.parametrize("mode", ["contrast", "labels"])
def test_page_advises_nothing_that_it_does_not_offer(scenes: Model, mode: str) -> None:
    models, results = ModelCache(["scenes"], load=lambda name: scenes), ResultCache(60.0)
    fields = [sample_file("coffee"), "a cup\na cat", mode, ["nib"], "scenes", "default"]
    *_, last = answer_events(models, LIMITS, results, fields)
    notes = re.search('<ul class="nibt-warnings".*?</ul>', str(last.answer))
    assert notes
    assert 'nibt-map-title">Other caption' in str(last.answer)
    assert not re.search("--|against_images|set a tolerance", notes[0])


def test_page_rejects_at_once_what_takes_too_long(scenes: Model) -> None:
    measured = {side: ForwardTime(1.0, 10) for side in ("image", "text")}
    models = ModelCache(["scenes"], load=lambda name: scenes, measure=lambda model: measured)  # type: ignore[arg-type]
    models.get("scenes")
    models.measure("scenes")
    fields = [sample_file("coffee"), "a cat", "each", ["rise"], "scenes", "default"]
    (update,) = [first_update(models, LIMITS, fields)]
    assert update.answer is None
    assert re.search(
        r"The method rise would take about \d+ min for 1 caption, and this page allows 60 s", update.message
    )
    assert "would take" in [*answer_events(models, LIMITS, ResultCache(60.0), fields)][-1].message
    models.record("scenes", "default", "rise", 10.0)  # the machine is faster than estimated
    assert first_update(models, LIMITS, fields).answer
    fields[1] = "\n".join("abcdefghij")
    assert "for 10 captions" in first_update(models, LIMITS, fields).message


@pytest.mark.slow
def test_page_remembers_the_results_of_links(scenes: Model) -> None:
    models, results = ModelCache(["scenes"], load=lambda name: scenes), ResultCache(60.0)
    fields = [sample_file("coffee"), "a cat", "each", ["nib"], "scenes", "default"]
    *earlier, last = answer_events(models, LIMITS, results, fields)
    assert earlier
    (again,) = answer_events(models, LIMITS, results, fields)
    pieces = [re.sub("answer/[^.]*", "", str(update.answer)) for update in (last, again)]
    assert pieces[0] == pieces[1]
    query = Link("coffee", "a dog", "each", "scenes", ("nib",), "default").query
    fields[1] = "a dog"
    another = answer_events(models, LIMITS, results, fields)
    while not results.recall(query):
        next(another)
    visitor = answer_events(models, LIMITS, results, fields)
    assert "their regions are still being computed" in str(next(visitor).answer)
    assert "Save as" in str(next(another).answer)
    assert "Save as" in str(next(visitor).answer), "it computed nothing itself"
    fields[1] = "a rocket"
    first, *_ = answer_events(models, LIMITS, results, fields)
    assert "Computing nib" in first.message


def test_first_update_shows_the_new_question(scenes: Model) -> None:
    models = ModelCache(["scenes"], load=lambda name: scenes)
    fields = [sample_file("coffee"), "a <cat>\na dog", "each", ["nib"], "scenes", "default"]
    update = first_update(models, LIMITS, fields)
    assert update.answer is not None
    assert '<li dir="auto">a &lt;cat&gt;</li><li dir="auto">a dog</li>' in update.answer
    assert 'role="status"' in update.message
    fields[1] = ""
    update = first_update(models, LIMITS, fields)
    assert update.answer is None, "the last answer stays"
    assert "Write a caption first" in update.message


def test_page_ends_a_replaced_question_without_a_message(scenes: Model) -> None:
    models, results = ModelCache(["scenes"], load=lambda name: scenes), ResultCache(60.0)
    fields = [sample_file("coffee"), "a cat", "each", ["nib"], "scenes", "default"]
    updates = list(answer_events(models, LIMITS, results, fields, is_wanted=lambda: False))
    assert [update.answer for update in updates] == [None, None]
    assert "Computing nib" in updates[-1].message


def test_model_facts_load_no_model(scenes: Model) -> None:
    loads: list[str] = []
    models_by_name = {"a": scenes, "b": tiny.model("convnext")}
    models = ModelCache(["a"], ["b"], load=lambda name: loads.append(name) or models_by_name[name])  # pyright: ignore
    models.get("a")
    assert 'data-method="gae" data-available="true"' in model_facts(models, "a", "default", LIMITS)
    assert [model_facts(models, name, "default", LIMITS) for name in ("b", "c", None, ["a"])] == [""] * 4
    assert loads == ["a"]
    models.get("b")
    assert 'data-method="gae" data-available="false">needs attention' in model_facts(models, "b", None, LIMITS)


@pytest.mark.slow
def test_page_explains_an_answer(scenes: Model) -> None:
    """The view is that of ``explain_answer``, and other models, empty prompts and the PNG are refused in one line."""
    models, results = ModelCache.of_names(["scenes"], []), ResultCache(60.0)
    fields = [
        sample_file("scene"),
        "describe the picture\na house",
        "answer",
        ["saliency_map"],
        "scenes_generator",
        "default",
    ]
    *_, last = answer_events(models, LIMITS, results, fields)
    view = str(last.answer)
    expected = nibt.explain_answer(
        "scenes_generator", "sample:scene", "describe the picture", "a house", "saliency_map"
    )
    (data,) = (json.loads(text) for text in re.findall(r'nibt-data">(.*?)</script>', view, re.DOTALL))
    assert data["panels"][0]["table"]["rows"] == pytest.approx(
        [pytest.approx(rounded(word.grid), abs=1e-4) for word in expected.words]
    )
    assert "describe the picture</h2>" in view
    assert 'class="nibt-answer"' in view
    assert "mode=answer" in view
    token = re.findall(r"answer/([^.]*)\.json", view)[0]
    assert f"answer/{token}.png" in view
    assert results.export(token, "png") is not None
    assert json.loads(results.export(token, "json") or b"")["kind"] == "answer"
    for changes, message in (
        ({4: "scenes"}, "This mode needs a generator, which writes answers, such as scenes_generator"),
        ({2: "each"}, "This mode needs a model that compares captions, such as scenes"),
        ({1: "\na house"}, "The prompt must not be empty"),
        ({1: ""}, "The prompt must not be empty"),
        ({1: "x" * 3000}, "3,000 characters"),
        ({4: "../x"}, "unknown model"),
    ):
        *_, last = answer_events(models, LIMITS, results, [changes.get(n, value) for n, value in enumerate(fields)])
        assert message.lower() in last.message.lower(), last.message
        assert last.message.count('role="alert"') == 1


@pytest.mark.parametrize("after", few((3, 60, 300), (60,)))
def test_answer_leaves_no_trace_after_the_time_limit(after: int) -> None:
    generator, ticks = nibt.load_generator("scenes_generator"), count()
    before = module_state(generator.module)
    request = make_request(
        "describe the picture\na house", "answer", file=sample_file("scene"), model="scenes_generator"
    )
    ((outcome,),) = explain_steps(request, generator, lambda step: Deadline(float(after), lambda: float(next(ticks))))
    assert "takes longer" in outcome.message  # pyright: ignore
    assert module_state(generator.module) == before
