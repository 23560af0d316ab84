"""Captions that name objects with their articles, such as "a photo of an owl and a cat"."""

from collections.abc import Sequence
from typing import NamedTuple

from nibt.data.pair import Span


class NamingCaption(NamedTuple):
    """A caption with the span of each noun: the start and the end (exclusive) in characters."""

    text: str
    spans: tuple[Span, ...]


def with_article(noun: str) -> str:
    """Return a noun with its indefinite article.

    >>> with_article("owl")
    'an owl'

    """
    return f"{'an' if noun[:1].lower() in set('aeiou') else 'a'} {noun}"


def naming_caption(
    nouns: Sequence[str], template: str = "{}", joint: str = "and", ending: str = "", definite: bool = False
) -> NamingCaption:
    """Return the caption that names objects in a template: ``a cat, a dog and an owl``."""
    before, after = template.split("{}")
    text, spans = before, []
    for place, noun in enumerate(nouns):
        if place:
            text += f" {joint} " if place == len(nouns) - 1 else ", "
        text += f"the {noun}" if definite else with_article(noun)
        spans.append((len(text) - len(noun), len(text)))
    return NamingCaption(text + after + ending, tuple(spans))


def photo_of(*names: str) -> NamingCaption:
    """Return the caption of a photo of objects.

    >>> photo_of("owl", "cat")
    NamingCaption(text='a photo of an owl and a cat', spans=((14, 17), (24, 27)))
    """
    return naming_caption(names, "a photo of {}")
