"""Tests of a generator behind a server on the page: the operator chooses it, and visitors see only its name."""

import logging
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

import nibt
from nibt.app.cache import ModelCache, ResultCache
from nibt.app.events import with_openings
from nibt.app.limits import Deadline
from nibt.app.render import answer_events, model_facts, served_note
from nibt.app.request import explain_steps
from nibt.cli.commands import serve as command
from nibt.data.images import sample_file
from nibt.errors import BadOption
from nibt.report.html.view import Failure, Panel
from tests.app.requests import LIMITS, make_request
from tests.bridges.test_answer_servers import KEY, PROMPT, Answers, serving
from tests.helpers import Run
from tests.hub import CLOSED


def models_of(served: Answers, **options: Any) -> ModelCache:
    generator = nibt.load_generator(f"{served.address}/v1", name="toy", **{"image_size": 32, "cells": 2, **options})
    return ModelCache.of_names(["scenes"], [], [generator])


def asked(models: ModelCache, captions: str = PROMPT, methods: Any = ("occlusion",)) -> list[Any]:
    """Return the updates of a question to the page."""
    values = [sample_file("coffee"), captions, "answer", list(methods), "toy", "default", None]
    return list(answer_events(models, LIMITS, ResultCache(60.0), values))


def test_a_visitor_explains_an_answer_of_a_served_generator(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with serving() as served:
        models = models_of(served, key_env="TOY_KEY")
        updates = asked(models)
        host = served.address.partition("//")[2]
    answer = updates[-1].answer
    assert "a red cat." in answer
    assert "he model is explained as it is served" in answer
    shown = "".join(f"{update.answer} {update.message}" for update in updates) + caplog.text
    assert host not in shown
    assert KEY not in shown


def test_a_served_generator_comes_first_with_its_own_method() -> None:
    with serving() as served:
        models = models_of(served)
        assert not served.requests
        assert models.for_answers(True).names[:2] == ["toy", "scenes_generator"]
        assert models.served == ["toy"]
        facts = model_facts(models, "toy", "default", LIMITS)
        assert '<li data-method="occlusion" data-available="true" data-default="true">' in facts
        assert '<li data-method="nib" data-available="false">needs the weights' in facts
        assert with_openings(models, {"mode": "answer"})["methods"] == "occlusion"
        assert with_openings(models, {"mode": "answer", "model": "scenes_generator"})["methods"] == "nib"
        assert "toy: on another server, which gets your image" in served_note(models.served)
    assert served_note([]) == ""


def test_a_method_that_needs_weights_says_which_do_not() -> None:
    with serving() as served:
        *_, last = asked(models_of(served), methods=("nib",))
    assert "explain an answer with occlusion, banzhaf or shapley" in last.message


def test_a_server_that_fails_is_said_without_its_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with serving(lasts=3) as served:
        *_, last = asked(models_of(served))
        host = served.address.partition("//")[2]
    assert "The server of &#39;toy&#39; refuses access" in last.message
    assert host not in last.message + caplog.text


@pytest.mark.parametrize("after", [1, 40])
def test_requests_end_at_the_time_limit(after: int) -> None:
    with serving() as served:
        generator: Any = models_of(served, at_once=1, cells=8).for_answers(True).get("toy")
        ticks = count()
        request = make_request(PROMPT, "answer", ["occlusion"], file=sample_file("scene"), model="toy")
        ((outcome,),) = explain_steps(
            request, generator, lambda step: Deadline(float(after), lambda: float(next(ticks)))
        )
        assert isinstance(outcome, Failure)
        assert "takes longer" in outcome.message
        assert len(served.requests) < 60, "not all 66 changed images are sent"
        ((outcome,),) = explain_steps(request, generator)
        assert isinstance(outcome, Panel)


def test_the_requests_of_all_visitors_are_limited() -> None:
    with serving() as served:
        models = models_of(served, requests=40)
        assert "a red cat." in asked(models)[-1].answer
        *_, last = asked(models, f"{PROMPT}\na hat.")
        assert "the limit of 40" in last.message


def test_two_models_of_one_name_are_refused() -> None:
    generator = nibt.load_generator(CLOSED, name="scenes")
    with pytest.raises(BadOption, match="the page has another model of the name 'scenes'"):
        ModelCache.of_names(["scenes"], [], [generator])
    other = nibt.load_generator(CLOSED, name="toy")
    with pytest.raises(BadOption, match="another model of the name 'toy'"):
        ModelCache.of_names(["scenes"], [], [other, other])


def test_the_command_gives_the_page_what_the_operator_chose(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def serve(*arguments: Any, **options: Any) -> None:
        given.update(options, models=arguments[2])

    monkeypatch.setattr("nibt.app.server.serve", serve)
    code, _, err = run("serve", "--server", CLOSED, "-m", "toy", "--load", "image_size=64", "--requests", "9")
    assert code == 0, err
    (generator,) = given["served"]
    assert (generator.id, generator.options.image_size, generator.server.requests) == ("toy", 64, 9)
    assert given["models"] == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", CLOSED], "the name of the generator on the server is missing"),
        (["--server", "toy", "-m", "toy"], "--server must be an address such as"),
        (["--load", "cells=4"], "--load is for a generator behind a server"),
        (["--requests", "4"], "--key-env, --requests and --tokens are for a model behind a server"),
        (["--server", CLOSED, "-m", "toy", "--space", "S"], "--space writes a page that asks no other server"),
    ],
)
def test_wrong_options_of_a_served_page_are_refused(run: Run, arguments: list[str], message: str) -> None:
    code, _, err = run("serve", *arguments)
    assert code == 2
    assert message in err
    assert not Path("S").exists()
    assert command.COMMANDS
