"""The contract of a view: a kind of results as a person sees it, in a picture, on a page and in the terminal.

The file ``report/views/regions.py`` has the view of the results whose ``kind`` is ``regions``. A wing has the views of
its own kinds.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from PIL import Image

from nibt.records import JsonObject
from nibt.registry import Plugin, find, kinds
from nibt.report.colors import Appearance
from nibt.results.base import Result, ResultWithMaps, require_result
from nibt.results.explanation import Explanation

_Shown = TypeVar("_Shown", bound=Result)
_Mapped = TypeVar("_Mapped", bound=ResultWithMaps)


class View(Plugin, ABC, Generic[_Shown]):
    """Base class of views. Its name is the kind of the results."""

    shows: ClassVar[type[Result]]
    """The class of the results."""
    place: ClassVar[int]
    """Where the class stands in the lists of messages."""

    @abstractmethod
    def draw(self, result: _Shown, look: Appearance) -> Image.Image:
        """Draw a result."""


class MapView(View[_Mapped]):
    """Base class of views of results with maps, which pages and the terminal show, too."""

    before_method: ClassVar[str] = ""
    """What stands before the name of the method."""

    text: ClassVar[str] = "caption"
    """What its words are of: a caption, or an answer."""

    @abstractmethod
    def question(self, result: _Mapped) -> str:
        """Return the question of a result as a sentence."""

    @abstractmethod
    def raised(self, result: _Mapped) -> str:
        """Return the name of the number that the color of positive scores raises."""

    @abstractmethod
    def target_line(self, result: _Mapped) -> str:
        """Return the target of each side, its value and its alternatives."""

    def outline(self, result: _Mapped) -> str:
        """Return what the outline on the map is; empty without one."""
        return ""

    def is_signed(self, result: _Mapped) -> bool:
        """Return whether the sign of a score is the direction in which a unit moves the target."""
        return bool(result.method.get("signed", True))

    @abstractmethod
    def heading(self, result: _Mapped) -> str:
        """Return the heading of a panel without a title."""

    def strong(self, result: _Mapped) -> str:
        """Return the number that a panel shows first."""
        name, value = self.score(result)
        return f"{name} {fixed(value)}"

    @abstractmethod
    def score(self, result: _Mapped) -> tuple[str, float]:
        """Return the name and the value of the number by which results are compared."""

    def word_table(self, result: _Mapped) -> JsonObject | None:
        """Return the table of the words of an answer."""
        return None

    @abstractmethod
    def facts(self, result: _Mapped) -> JsonObject:
        """Return what the details list beside the method, the model and the versions."""


def view_of(result: ResultWithMaps) -> MapView:
    """Return the view of a result with maps."""
    return find("views", result.kind)()


def require_view(value: object, caller: str, of: type[View] = View) -> None:
    """Check that a function was given a result that has a view, with finite numbers."""
    own_kind = getattr(value, "kind", None)
    known = kinds("views")

    # the views of other kinds need not be imported for a result that has its own
    views = [find("views", kind) for kind in ([own_kind] if own_kind in known else known)]
    able = [view for view in views if issubclass(view, of)]

    # an error names all classes that have such a view
    if not any(isinstance(value, view.shows) for view in able):
        able = [view for kind in known if issubclass(view := find("views", kind), of)]

    able.sort(key=lambda view: view.place)
    require_result(value, caller, *(view.shows for view in able))


_SIMILARITIES = {
    "max_sim": "MaxSim",
    "logit": "logit",
    "matching": "matching score",
    "box": "box score",
    "mask": "mask score",
}


def similarity_name(result: ResultWithMaps) -> str:
    """Return how the model compares both sides, or what its score of a pair is."""
    kind = result.model.get("similarity", "").partition(":")[0]
    return _SIMILARITIES.get(kind, "cosine")


def similarity_noun(result: ResultWithMaps) -> str:
    """Return what the score of a pair is called: the similarity of an image and a caption, or a score of the model."""
    name = similarity_name(result)
    return "similarity" if name in ("cosine", "MaxSim") else name


def probability_text(result: Explanation) -> str:
    """Return the probability of a match, to follow a similarity; empty of models without one."""
    if result.match_probability is None:
        return ""
    return f", probability of a match {result.match_probability:.3f}"


def fixed(value: float) -> str:
    """Return a similarity with three decimals, and a minus sign instead of a hyphen."""
    return f"{value:z.3f}".replace("-", "\u2212")


def quoted(text: str) -> str:
    """Return a text in quotation marks."""
    return f"\u201c{text}\u201d"


def names_of(sources: Sequence[str]) -> list[str]:
    """Return the names of images without their folders, as far as they still differ.

    >>> names_of(["photos/cat.jpg", "photos/dog.jpg"]), names_of(["a/1.jpg", "b/1.jpg"])
    (['cat.jpg', 'dog.jpg'], ['a/1.jpg', 'b/1.jpg'])
    """
    parts = [re.split(r"[/\\]", source) for source in sources]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-count:]) or source for part, source in zip(parts, sources, strict=True)]
        if len(set(names)) == len(set(sources)):
            return names

    return list(sources)


def other_image(first: str, second: str) -> str:
    """Return how a question names the second of two images, whose names may be the same."""
    return "the other image" if first == second else second
