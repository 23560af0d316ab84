"""Captions of scenes from templates, with the spans of their nouns."""

from collections.abc import Sequence
from dataclasses import dataclass

from nibt.datasets._draws import Draws

TEMPLATES = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "there is {}",
    "this is {}",
    "here we see {}",
    "{} in the picture",
    "a scene with {}",
)
JOINTS = ("and", "and", "and", "with", "next to")
WORDS = "a an the and with next to photo of picture image drawing there is this here we see in scene , .".split()


@dataclass(frozen=True)
class Caption:
    """A caption with the spans of its nouns.

    Attributes:
        text: The caption.
        spans: The start and the end (exclusive) of each noun, in characters.

    """

    text: str
    spans: tuple[tuple[int, int], ...]


def with_article(noun: str) -> str:
    """Return a noun with its indefinite article.

    >>> with_article("owl")
    'an owl'

    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def bare(nouns: Sequence[str]) -> Caption:
    """Return a caption that lists the nouns: ``a cat, a dog and an owl``."""
    return _joined(nouns, "{}", "and", "", False)


def drawn(nouns: Sequence[str], draws: Draws) -> Caption:
    """Draw a caption with the nouns, in their order, in a random template."""
    ending = " ." if draws.chance(25) else ""
    return _joined(nouns, draws.one_of(TEMPLATES), draws.one_of(JOINTS), ending, draws.chance(12))


def _joined(nouns: Sequence[str], template: str, joint: str, ending: str, definite: bool) -> Caption:
    before, after = template.split("{}")
    text, spans = before, []
    for place, noun in enumerate(nouns):
        if place:
            text += f" {joint} " if place == len(nouns) - 1 else ", "
        text += f"the {noun}" if definite else with_article(noun)
        spans.append((len(text) - len(noun), len(text)))
    return Caption(text + after + ending, tuple(spans))
