"""Search for the words of a caption that name objects: whole words in any case, the longest name first."""

import re
from collections.abc import Iterable
from functools import lru_cache

from nibt.data.pair import Span

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
    rest, last = name[: name.rfind(" ") + 1], name[name.rfind(" ") + 1 :]
    regular = (
        last + "es"
        if re.search("(s|x|z|ch|sh)$", last)
        else last[:-1] + "ies"
        if re.search("[^aeiou]y$", last)
        else last + "s"
    )
    return {rest + regular, rest + _IRREGULAR.get(last, regular)}


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
