"""Tests of ``nibt.app.questions``."""

import pytest

from nibt.app import questions
from nibt.app.questions import Questions


def test_a_later_question_replaces_an_earlier_one_of_the_same_visitor() -> None:
    asked = Questions()
    asked.ask("a", 1)
    asked.ask("b", 1)
    assert asked.start("a", 1)
    assert not asked.start("a", 1), "it is answered once"
    asked.ask("a", 2)
    assert [asked.is_latest("a", number) for number in (1, 2)] == [False, True]
    assert asked.is_latest("b", 1)
    assert not asked.start("a", 1), "it was replaced"
    asked.ask("a", 1)
    assert asked.start("a", 2), "requests may arrive in another order"


def test_a_visitor_who_leaves_and_returns_is_answered() -> None:
    asked = Questions()
    asked.leave("a")
    asked.ask("a", 1)
    assert asked.start("a", 1)
    asked.leave("a")
    assert not asked.is_latest("a", 1)
    asked.ask("a", 2)
    assert asked.start("a", 2)


def test_questions_forget_the_visitors_of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MAX_VISITORS", 2)
    asked = Questions()
    for visitor in "abc":
        asked.ask(visitor, 5)
    assert [asked.is_latest(visitor, 1) for visitor in "abc"] == [True, False, False]
