"""Tests of ``nibt.app.limits``."""

from dataclasses import replace

import pytest

from nibt.app import limits
from nibt.app.limits import Questions
from tests.app.requests import LIMITS


def test_deadline_leaves_time_for_later_methods() -> None:
    ends = [replace(LIMITS, timeout=60.0).deadline(100.0, later) for later in (3, 2, 1, 0)]
    assert ends == pytest.approx([142, 148, 154, 160])


def test_a_later_question_replaces_an_earlier_one_of_the_same_visitor() -> None:
    queue = Questions()
    queue.ask("a", 1)
    queue.ask("b", 1)
    assert queue.start("a", 1)
    assert not queue.start("a", 1), "it is answered once"
    queue.ask("a", 2)
    assert [queue.is_latest("a", number) for number in (1, 2)] == [False, True]
    assert queue.is_latest("b", 1)
    assert not queue.start("a", 1), "it was replaced"
    queue.ask("a", 1)
    assert queue.start("a", 2), "requests may arrive in another order"


def test_a_visitor_who_leaves_and_returns_is_answered() -> None:
    queue = Questions()
    queue.leave("a")
    queue.ask("a", 1)
    assert queue.start("a", 1)
    queue.leave("a")
    assert not queue.is_latest("a", 1)
    queue.ask("a", 2)
    assert queue.start("a", 2)


def test_questions_forget_the_visitors_of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_VISITORS", 2)
    queue = Questions()
    for visitor in "abc":
        queue.ask(visitor, 5)
    assert [queue.is_latest(visitor, 1) for visitor in "abc"] == [True, False, False]
