"""What images, pages and the terminal share: the request behind a result in words, and captions with their colors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nibt.io import one_line
from nibt.report.colors import DEFAULT, RGB, Appearance, faded, on_paper, strength
from nibt.report.view import view_of
from nibt.results.attribution import TextAttribution
from nibt.results.base import ResultWithMaps
from nibt.results.explanation import Explanation
from nibt.results.notes import WithNotes


def question(result: ResultWithMaps) -> str:
    """Return the question of a result as a sentence."""
    return view_of(result).question(result)


def legend(result: ResultWithMaps, look: Appearance = DEFAULT) -> str:
    """Return the legend of the colors."""
    if not is_signed(result):
        text = "The stronger the color, the more it matters; this method does not say in which direction."
        return text + (f" In the image, {look.palette.names[1]} lowers the score." if _by_removal(result) else "")

    name = view_of(result).raised(result)
    if not result.method.get("signed", True):  # a table of words, whose entries have signs with any method
        name = "method's score of a part"
    positive, negative = look.palette.names
    hidden = "what lowers it is not shown" if look.positive_only else f"{negative} lowers it"
    legend_text = sentence(f"{positive} raises the {name}, {hidden}")
    outline = view_of(result).outline(result) if look.outlined else ""
    return f"{legend_text} {sentence(outline)}" if outline else legend_text


def is_signed(result: ResultWithMaps) -> bool:
    """Return whether the sign of a score is the direction in which a unit moves the target."""
    return view_of(result).is_signed(result)


def side_look(result: ResultWithMaps, name: str, look: Appearance) -> Appearance:
    """Return how the map of a side is drawn: pale if it is noise."""
    return look.pale if result.is_noise(name) else look


def note_lines(result: WithNotes) -> list[str]:
    """Return the notes of a result except the gravest, which is a banner, as lines."""
    return [f"note: {warning}" for warning in result.other_warnings]


def method_line(result: ResultWithMaps) -> str:
    """Return the method with its variant, and the model: ``method nib (default), model lite``."""
    table = view_of(result).before_method
    path = " along NIB's path" if result.method.get("along_path") else ""
    amounts = ", amounts by removal" if _by_removal(result) else ""
    method = f"{table}{result.method['name']} ({result.method['variant']}){path}{amounts}"
    return f"method {method}, model {Path(result.model['id']).name}"


def _by_removal(result: ResultWithMaps) -> bool:
    """Return whether the amounts of a map are those of removal."""
    return any(isinstance(side, dict) and side.get("amounts") == "removal" for side in result.method.values())


def target_line(result: ResultWithMaps) -> str:
    """Return the target of each side, its value and its alternatives; one entry if both sides have ``cosine``."""
    return view_of(result).target_line(result)


def sentence(text: str, capital: bool = True) -> str:
    """Add a period to a text and, with ``capital``, capitalize its first letter.

    >>> sentence("the caption was cut")
    'The caption was cut.'
    """
    first = text[:1].upper() if capital else text[:1]
    return first + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


Worded: TypeAlias = Explanation | TextAttribution
"""Results with words and scores: an explanation, or a caption of a comparison."""


@dataclass(frozen=True)
class ColoredWord:
    """A word, its score, its score relative to the largest absolute one, in [-1, 1], and its background color.

    ``error`` is that of an estimated score; else None. Of a score that cannot be told from 0, the share is a quarter.
    """

    text: str
    score: float
    share: float
    background: RGB
    error: float | None = None


def shared_word_scale(explanation: Explanation) -> float | None:
    """Return the largest absolute score of a word of two captions, whose colors have one scale; None for one."""
    captions = [side for side in explanation.sides.values() if isinstance(side, TextAttribution)]
    if len(captions) < 2:
        return None
    return max((abs(word.score) for side in captions for word in side.words), default=0.0)


def runs(worded: Worded, look: Appearance = DEFAULT, most: float | None = None) -> Iterator[ColoredWord]:
    """Yield the words in order; negative words have no color if they are hidden.

    ``most`` is the largest absolute score of a scale that several captions share.
    """
    scores = np.array([word.score for word in worded.words], np.float32)
    if most is None:
        most = float(np.abs(scores).max(initial=0))

    # no score is within an error below 0, so scores without an error are not faded
    errors = np.array([-1.0 if word.error is None else word.error for word in worded.words], np.float32)
    shares = strength(faded(scores.clip(0) if look.positive_only else scores, errors), most)
    backgrounds = on_paper(shares, look.palette).tolist()
    for word, share, background in zip(worded.words, shares.tolist(), backgrounds, strict=True):
        yield ColoredWord(one_line(word.text), word.score, share, tuple(background), word.error)
