"""Tests of ``nibt.app.methods``."""

import re
from itertools import count

import pytest

import nibt
from nibt.app.methods import (
    CATEGORIES,
    ForwardTime,
    MethodFacts,
    by_category,
    facts_list,
    measure_forwards,
    method_facts,
    method_fields,
)
from nibt.app.request import explain_steps
from nibt.errors import Unsupported
from nibt.models.base import Model
from nibt.registry import available, find
from nibt.report.html.view import Failure, Panel
from tests import tiny
from tests.app.requests import make_request


def test_forwards_are_measured(scenes: Model) -> None:
    ticks = count(10.0, 0.5)
    times = measure_forwards(scenes, lambda: next(ticks))
    assert {side: time.seconds for side, time in times.items()} == {"image": 0.5, "text": 0.5}
    explanation = nibt.explain(scenes, "sample:chelsea", "a cat", views=1)
    assert times["image"].units == explanation.grid.numel()
    assert all(time.seconds > 0 for time in measure_forwards(scenes).values())


def test_time_is_that_of_the_forward_passes(scenes: Model) -> None:
    times = {"image": ForwardTime(2.0, 100), "text": ForwardTime(0.5, 10)}
    facts = method_facts(scenes, times)  # type: ignore[arg-type]
    assert facts.keys() == set(available("methods"))
    assert facts["occlusion"] == MethodFacts(2.0 * 101 + 0.5 * 11)
    assert facts["center"] == MethodFacts(2.5), "both towers run once for the similarity"
    assert facts["rollout"] == MethodFacts(5.0)
    steps = 1 + 2 * 10 * (1 - 9 / 12)
    paper = method_facts(scenes, times, "paper")["nib"].seconds  # type: ignore[arg-type]
    assert paper == pytest.approx(2.5 * steps)


@pytest.mark.parametrize(("seconds", "ratio", "fixed"), [(1.0, 0.4, 0.0), (5.5, 1.0, 3.0)])
def test_times_are_corrected_by_those_of_methods_that_have_run(
    scenes: Model, seconds: float, ratio: float, fixed: float
) -> None:
    times = {"image": ForwardTime(2.0, 100), "text": ForwardTime(0.5, 10)}
    estimates, corrected = (method_facts(scenes, times, "default", run) for run in ({}, {"center": seconds}))  # type: ignore[arg-type]
    assert estimates["center"].seconds == 2.5
    assert corrected["center"].seconds == seconds
    assert corrected["occlusion"].seconds == pytest.approx(ratio * (estimates["occlusion"].seconds or 0) + fixed)
    fast = method_facts(scenes, times, "fast")["nib"].seconds or 0  # type: ignore[arg-type]
    assert fast < (estimates["nib"].seconds or 0)


def test_reasons_are_those_of_the_methods() -> None:
    model, image = tiny.model("convnext"), tiny.image()
    facts = method_facts(model, measure_forwards(model))
    for method, fact in facts.items():
        if fact.reason:
            assert fact.seconds is None
            with pytest.raises(Unsupported, match=re.escape(fact.reason[:20])):
                nibt.explain(model, image, "a cat", method)
        else:
            assert "attention" not in find("methods", method).needs
    assert facts["gae"].reason == "needs attention, which this image tower lacks"
    (first, second) = list(explain_steps(make_request(methods=("nib", "gae")), model))[-1]
    assert isinstance(first, Panel)
    assert isinstance(second, Failure)
    assert "eeds attention" in second.message


@pytest.mark.slow
def test_fields_have_all_methods_by_category() -> None:
    groups = by_category()
    assert next(iter(groups.items()))[1][0] == "nib"
    assert sorted(name for names in groups.values() for name in names) == available("methods")
    assert "random" in groups["control"]
    html = method_fields()
    assert re.findall(r'value="(\w+)"', html) == [name for names in groups.values() for name in names]
    assert re.findall(r"checked>(\w+)", html) == ["nib"]
    assert re.findall(r"<legend>(\w+)", html) == [CATEGORIES[kind].split(":")[0] for kind in groups]


def test_facts_say_what_exceeds_the_limit() -> None:
    facts = {"a": MethodFacts(3.2), "b": MethodFacts(200.0), "c": MethodFacts(), "d": MethodFacts(None, "<no>")}
    html = facts_list(facts, 60.0)
    assert '<li data-method="a" data-available="true">about 3 s</li>' in html
    assert 'data-method="b" data-available="false">about 3 min, and this page allows 60 s' in html
    assert '<li data-method="c" data-available="true"></li>' in html
    assert '<li data-method="d" data-available="false">&lt;no&gt;</li>' in html
