"""What the words before a word of an answer add to its probability, by requests that leave some of them out.

There are two games: that of the words of the prompt, and that of the earlier words of the answer.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from nibt.bridges.questions import Question
from nibt.generators.word_games import Kept, Rows, WordGame
from nibt.preprocessing.captions import word_pieces, words_of_text

WordAfter: TypeAlias = tuple[int, Kept]
"""The number of a word of an answer, and the words before it that are kept."""


class PromptWords(WordGame):
    """The words of a prompt."""

    def __init__(self, question: Question, score: Callable[[Sequence[Question]], Rows]) -> None:
        self.question = question
        self.score = score
        self.pieces = [word_pieces(text) for text in question.texts]
        super().__init__([word for text in question.texts for word in words_of_text(text)])

    def values(self, kept: Sequence[Kept]) -> Rows:
        return self.score([self.with_words(numbers) for numbers in kept])

    def with_words(self, kept: Kept) -> Question:
        """Return the question with some of its words."""
        if len(kept) == len(self.words):
            return self.question

        texts: list[str] = []
        first = 0
        for pieces in self.pieces:
            left = [piece for number, piece in enumerate(pieces, first) if number in kept]
            texts.append("".join(left).strip())
            first += len(pieces)

        return self.question.with_texts(texts)


class KnownWords:
    """The values of words of an answer after some of its earlier words, each of which is asked once.

    Args:
        ask: Yields, for each of some words, by its place in the list, its value and, where a server scores whole
            answers, those of the words after it.
    """

    def __init__(self, ask: Callable[[Sequence[WordAfter]], Iterable[tuple[int, Sequence[float]]]]):
        self.ask = ask
        self.values: dict[WordAfter, float] = {}

    def add(self, number: int, kept: Kept, values: Sequence[float]) -> None:
        """Keep the values of a word, and of those after it, with some of the words before it."""
        for later, value in enumerate(values, number):
            self.values[later, (*kept, *range(number, later))] = value

    def fetch(self, words: Iterable[WordAfter]) -> None:
        """Ask for the values that are not known."""
        new = [word for word in dict.fromkeys(words) if word not in self.values]
        for place, values in self.ask(new):
            self.add(*new[place], values)

    def of(self, number: int, kept: Sequence[Kept]) -> list[float]:
        """Return the values of a word with each of some sets of the words before it."""
        self.fetch((number, numbers) for numbers in kept)
        return [self.values[number, numbers] for numbers in kept]


class EarlierWords(WordGame):
    """The words of an answer before one of its words."""

    def __init__(self, words: Sequence[str], known: KnownWords) -> None:
        super().__init__(words)
        self.known = known

    def values(self, kept: Sequence[Kept]) -> Rows:
        return [[value] for value in self.known.of(len(self.words), kept)]
