"""Parts of captions: what is alike among the words that carry the positive score over a data set.

The JSON form is described in ``docs/guides/parts.md``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import computed_field

from nibt.options import ClosedShare, Count, Layer, NotNegative, PartCount, Seed
from nibt.records import JsonObject
from nibt.results.base import Result, Serializable
from nibt.results.part_scores import PartVerdict
from nibt.results.parts import Effect, parts_request, verdict_of
from nibt.types import ModelRecord


@dataclass(frozen=True)
class WordOfPart:
    """A word of a part.

    Attributes:
        word: The word, in lower case.
        share: The share of the part's score on it.
        captions: The number of captions in which it carries score of the part.
    """

    word: str
    share: float
    captions: int


@dataclass(frozen=True)
class CaptionOfPart:
    """A part in one caption.

    Attributes:
        pair: The position of the pair.
        caption: The caption.
        spans: The first character of each word of the part, and the one after its last.
        share: The share of the caption's positive score on the part.
        exchanged: The caption with the words of the part exchanged for those of another caption.
        other: The other caption.
    """

    pair: int
    caption: str
    spans: tuple[tuple[int, int], ...]
    share: float
    exchanged: str
    other: str


@dataclass(frozen=True, eq=False)
class WordPart(Serializable):
    """One part: a cluster of words with similar hidden states that carry positive scores.

    Attributes:
        number: The number of the part, from 1.
        share: Its share of the score of all words that were clustered.
        captions: The number of captions that have it.
        words: Its words with the largest shares.
        stability: The share of draws of half of the captions in which a matching part is found (Jaccard index of at
            least 0.5, by score).
        on_names: The share of its score on words that name objects; None if these words are not known.
        needed: The similarity that captions lose if the words of the part are exchanged for those of another caption;
            None if this is unknown.
        sufficient: The similarity that the other caption gains by them, likewise.
        examples: The captions with the largest shares.
    """

    number: int
    share: NotNegative
    captions: Count
    words: tuple[WordOfPart, ...]
    stability: ClosedShare
    on_names: float | None
    needed: Effect | None
    sufficient: Effect | None
    examples: tuple[CaptionOfPart, ...]

    @computed_field
    @property
    def is_stable(self) -> bool:
        """Whether a matching part is found in at least half of the draws."""
        return self.stability >= 0.5

    @computed_field
    @property
    def verdict(self) -> PartVerdict:
        """The verdict, as ``Part.verdict`` describes it, with the words that name objects in place of the objects."""
        return verdict_of(self.on_names, self.needed, self.captions)


@dataclass(frozen=True, eq=False, repr=False)
class WordParts(Result):
    """The parts of captions of a model over a data set.

    Attributes:
        model: The model and its hashes.
        data: The data set and the number of pairs.
        method: The method of the scores.
        layer: The layer of the text tower whose hidden states describe words.
        seed: The seed of all random draws.
        count: The number of clusters that were asked for.
        seconds: The time that the computation took.
        versions: The versions of packages.
        kept: The share of all positive scores on the words that were clustered.
        parts: The parts: shortcuts first, then those with the verdict ``cannot tell``, then the largest shares.
        notes: Warnings.
    """

    kind: ClassVar[str] = "word_parts"
    schema: ClassVar[int] = 1

    model: ModelRecord
    data: JsonObject
    method: str
    layer: Layer
    seed: Seed
    count: PartCount
    seconds: NotNegative
    versions: Mapping[str, str]
    kept: float
    parts: tuple[WordPart, ...]
    notes: tuple[str, ...] = ()

    @property
    def shortcuts(self) -> tuple[WordPart, ...]:
        """The parts with the verdict ``shortcut``."""
        return tuple(part for part in self.parts if part.verdict == "shortcut")

    def request(self) -> JsonObject:
        return parts_request(self.kind, self.model, self.data, self.method, self.layer, self.seed, self.count)

    def _lines(self) -> Iterator[str]:
        shortcuts = len(self.shortcuts)
        yield f"Parts of captions of {self.model.get('id')}: {len(self.parts)}, of which {shortcuts} are shortcuts"
        yield f"  {self.method} on {self.data.get('pairs')} pairs of {self.data.get('dataset', 'your own')}"
        for part in self.parts:
            words = ", ".join(word.word for word in part.words[:3])
            needed = f", needed {part.needed.value:.2f}" if part.needed else ""
            unstable = "" if part.is_stable else ", not stable"
            yield (
                f"  {part.number} {part.verdict}: {words}, {part.share:.0%} of the score, {part.captions} captions"
                f"{needed}{unstable}"
            )
