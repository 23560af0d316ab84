"""Captions that name objects, the names in captions, and the names and captions by which CLIP was evaluated."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from nibt.data.objects import Span


class NamingCaption(NamedTuple):
    """A caption with the span of each noun: the start and the end (exclusive) in characters."""

    text: str
    spans: tuple[Span, ...]


_VOWEL = re.compile(r"(?!uni(?!n|m)|us[aeiu]|ut[ei]|eu|ewe|onc?e\b|ubiq)[aeiou]|hour|heir|hono|hones", re.IGNORECASE)
"""The beginning of nouns that are spoken with a vowel first."""


def with_article(noun: str) -> str:
    """Return a noun with its indefinite article.

    >>> with_article("owl"), with_article("unicorn"), with_article("hour")
    ('an owl', 'a unicorn', 'an hour')
    """
    return f"{'an' if _VOWEL.match(noun) else 'a'} {noun}"


def naming_caption(
    nouns: Sequence[str], template: str = "{}", joint: str = "and", ending: str = "", definite: bool = False
) -> NamingCaption:
    """Return the caption that names objects in a template: ``a cat, a dog and an owl``."""
    before, after = template.split("{}")
    text = before
    spans = []
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


_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "mouse": "mice",
    "goose": "geese",
    "sheep": "sheep",
    "fish": "fish",
    "knife": "knives",
    "leaf": "leaves",
    "shelf": "shelves",
    "wolf": "wolves",
    "calf": "calves",
    "loaf": "loaves",
}


def named_spans(caption: str, names: Iterable[str]) -> dict[str, tuple[Span, ...]]:
    """Return the spans of a caption that match each name, as start and end (exclusive) in characters.

    Names without a match are left out.

    >>> named_spans("Two hot dogs and a dog.", ["dog", "hot dog"])
    {'hot dog': ((4, 12),), 'dog': ((19, 22),)}
    """
    pattern, of_form = _pattern(tuple(sorted(set(names))))
    spans: dict[str, tuple[Span, ...]] = {}
    for match in pattern.finditer(caption):
        name = of_form[" ".join(match.group().lower().split())]
        spans[name] = (*spans.get(name, ()), match.span())

    return spans


def plurals(name: str) -> set[str]:
    """Return the plurals of a name, by its last word.

    >>> sorted(plurals("wine glass") | plurals("person"))
    ['people', 'persons', 'wine glasses']
    """
    return {plural(name), plural(name, {})}


def plural(name: str, irregular: Mapping[str, str] = _IRREGULAR) -> str:
    """Return the plural of a name, by its last word, as in ``wine glasses``."""
    rest = name[: name.rfind(" ") + 1]
    last = name[name.rfind(" ") + 1 :]
    regular = (
        last + "es"
        if re.search("(s|x|z|ch|sh)$", last)
        else last[:-1] + "ies"
        if re.search("[^aeiou]y$", last)
        else last + "s"
    )
    return rest + irregular.get(last, regular)


@lru_cache(maxsize=1024)
def _pattern(names: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return a pattern for the forms of all names, the longest first, and the name of each form."""
    of_form: dict[str, str] = {}
    for name in names:
        folded = " ".join(name.lower().split())
        of_form |= {form: name for form in plurals(folded) if form not in of_form}

    of_form |= {" ".join(name.lower().split()): name for name in names}  # an exact name has priority over a plural
    forms = sorted(filter(None, of_form), key=lambda form: (-len(form), form))
    either = "|".join(r"\s+".join(map(re.escape, form.split())) for form in forms)
    return re.compile(rf"(?<![\w-])(?:{either})(?![\w-])" if either else r"(?!)", re.IGNORECASE), of_form


def openai_templates() -> tuple[str, ...]:
    """Return the 80 captions of a class, each with ``{}`` in place of its name."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def openai_names() -> tuple[str, ...]:
    """Return the names of the 1,000 classes, in the order of their sorted synsets."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)
