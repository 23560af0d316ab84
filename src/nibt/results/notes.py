"""Notes of results: each has a text for readers and a code for programs, by which pictures, pages and terminals act."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

NO_REACTION = "no_reaction"
"""The model does not react to the caption: every map of the result is noise."""
NO_MATCH = "no_match"
"""The model does not rate the pair as a match."""
NOISE = "noise"
"""The scores of a map are negligible. With a side, only the map of that side is noise."""
WEAK_MATCH = "weak_match"
"""The similarity is far below what the model gives to a match."""
CHECKS_ARE_NO_MATCH = "checks_without_match"
"""The checks of the map pass although there is no match, or the map is noise."""
HARDLY = "image_hardly_matters"
"""The image hardly matters for some words of an answer."""
ESTIMATE = "estimate"
"""Scores are estimated from random draws: how large their error is, and how many may be 0."""
ERROR_NOT_REACHED = "error_not_reached"
"""The budget was spent before the error was as small as requested."""
CANNOT_TELL = "seen_or_guessed"
"""Whether the model saw some words of an answer in the image, or guessed them, cannot be told."""
CLASS = "class"
"""The text is a class of a classifier, which is one unit."""
OTHER_CLASS = "other_class"
"""A classifier chooses another class for the image."""
SCORES = "scores"
"""The scores of a side do not add up to the change of the score, or are all equal. It always has a side."""
OTHER = "note"
"""All other notes, such as those on an image that was cropped."""
AGAINST = "against"
"""The side of a note on what the pair is compared with."""
_GRAVEST = (NO_REACTION, NO_MATCH, NOISE, WEAK_MATCH)


@dataclass(frozen=True)
class Note:
    """A note for the reader of a result.

    Attributes:
        code: What the note is about, for programs.
        text: The text, without a capital at the start or a period at the end.
        side: The side whose map the note is about; empty for all.
    """

    code: str
    text: str
    side: str = ""

    @property
    def label(self) -> str:
        """The code, with the side after a colon if there is one, as the JSON form has it."""
        return f"{self.code}:{self.side}" if self.side else self.code


def note_fields(notes: Iterable[Note | str]) -> dict[str, Any]:
    """Return the fields of a result that has these notes; a text without a code has the code ``note``."""
    coded = [note if isinstance(note, Note) else Note(OTHER, note) for note in notes]
    return {"warnings": tuple(note.text for note in coded), "codes": tuple(note.label for note in coded)}


def prefixed(prefix: str, notes: Iterable[Note | str]) -> list[Note | str]:
    """Return notes whose texts begin with the name of what they are about."""
    return [replace(note, text=prefix + note.text) if isinstance(note, Note) else prefix + note for note in notes]


class WithNotes:
    """What results with notes share: ``warnings`` has the texts, and ``codes`` the code of each of them."""

    warnings: tuple[str, ...]
    codes: tuple[str, ...]

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes, each with its code."""
        # a file need not have codes, nor as many of them as warnings
        pairs = zip_longest(self.codes[: len(self.warnings)], self.warnings, fillvalue=OTHER)
        return tuple(Note(code.partition(":")[0], text, code.partition(":")[2]) for code, text in pairs)

    @property
    def gravest(self) -> Note | None:
        """The note that stands before the map: no reaction, no match, noise, or a weak match.

        Noise of what the pair is compared with is none: it usually matches less than the pair.
        """
        notes = [note for note in self.notes if note.side != AGAINST]
        return next((note for code in _GRAVEST for note in notes if note.code == code), None)

    @property
    def mismatch(self) -> str:
        """The text of the gravest note; empty without one."""
        return "" if self.gravest is None else self.gravest.text

    @property
    def other_warnings(self) -> tuple[str, ...]:
        """The texts of all notes except the gravest."""
        return tuple(warning for warning in self.warnings if warning != self.mismatch)

    def is_noise(self, side: str = "") -> bool:
        """Return whether the map of a side is noise; without a side, whether all maps of the result are."""
        of_all = any(note.code == NO_REACTION or (note.code == NOISE and not note.side) for note in self.notes)
        return of_all or (bool(side) and any(note.code == NOISE and note.side == side for note in self.notes))
