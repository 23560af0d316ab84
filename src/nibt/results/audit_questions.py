"""The questions of an audit and its checks, with what each check says; ``audit_questions.toml`` has the texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from nibt.io import load_toml


@dataclass(frozen=True)
class Question:
    """A question of an audit: its heading, and what is checked."""

    heading: str
    about: str


@dataclass(frozen=True)
class CheckTexts:
    """What a check says.

    Attributes:
        good: What it means if the check passes.
        bad: What it means if it does not.
        other: What else produces such a value.
        missing: Why it matters that the check did not run.
        advice: What to do if it does not pass; empty if the question has no pairs to look at.
    """

    good: str
    bad: str
    other: str
    missing: str
    advice: str = ""


@dataclass(frozen=True)
class Questionnaire:
    """The questions of one kind of audit.

    Attributes:
        noun: What the values are computed over.
        quick: What a quick audit leaves out.
        examples: Which examples the page shows, and their colors.
        values: What holds for all values.
        reasons: The page of the documents that has the reasons for the thresholds.
        questions: The questions in the order of the page, by their numbers in ``Check.question``.
        checks: What each check says, by its name.
    """

    noun: str
    quick: str
    examples: str
    values: str
    reasons: str
    questions: Mapping[int, Question]
    checks: Mapping[str, CheckTexts]


def _questionnaire(texts: Mapping[str, Any]) -> Questionnaire:
    return Questionnaire(
        **texts["about"],
        questions={number: Question(**entry) for number, entry in enumerate(texts["questions"], 1)},
        checks={name: CheckTexts(**entry) for name, entry in texts["checks"].items()},
    )


_TEXTS = load_toml(files("nibt.results") / "audit_questions.toml")
QUESTIONNAIRES = {"pairs": _questionnaire(_TEXTS), "answers": _questionnaire(_TEXTS["answers"])}
"""The questions of an audit by its subject: the maps of pairs, or the answers of a generator."""
QUESTIONS = QUESTIONNAIRES["pairs"].questions
"""The questions of an audit of pairs in the order of the page, by their numbers in ``Check.question``."""
QUESTION_OF_EVIDENCE = 9
"""The number of the question that says where the score lies."""
QUESTION_OF_PARTS = 10
"""The number of the question that has the galleries of parts."""
