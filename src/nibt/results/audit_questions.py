"""The questions of an audit and its checks, with what each check says; ``audit_questions.toml`` has the texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

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


_TEXTS = load_toml(files("nibt.results") / "audit_questions.toml")
QUESTIONS = {number: Question(**entry) for number, entry in enumerate(_TEXTS["questions"], 1)}
"""The questions of an audit in the order of the page, by their numbers in ``Check.question``."""
QUESTION_OF_EVIDENCE = 9
"""The number of the question that says where the score lies."""
QUESTION_OF_PARTS = 10
"""The number of the question that has the galleries of parts."""
CHECKS: Mapping[str, CheckTexts] = {name: CheckTexts(**entry) for name, entry in _TEXTS["checks"].items()}
"""What each check says, by its name."""
