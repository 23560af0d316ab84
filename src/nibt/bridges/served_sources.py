"""What the words of a served answer took from each source: from the image, the prompt and the earlier words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from PIL import Image
from torch import Tensor

from nibt.bridges.questions import Question
from nibt.bridges.scored_answers import ScoredAnswer
from nibt.bridges.served_words import EarlierWords, KnownWords, PromptWords, WordAfter
from nibt.core.side import Side
from nibt.data.units import Segments, Units, cells_of
from nibt.generators.results.answer_word import AnswerWord, WordErrors
from nibt.generators.word_games import TargetModel, as_they_are, played
from nibt.methods._units import SegmentMethod
from nibt.models._functions import FunctionImageTower
from nibt.models._inputs import Inputs
from nibt.progress import OnProgress
from nibt.types import Source, UnitValues


@dataclass(frozen=True)
class SourceScores:
    """What one source gave to the words of an answer.

    Attributes:
        scores: For each word, the scores of the units of the source.
        errors: Their errors; None if the scores are no estimates.
        without: The value of the target for each word without the source.
    """

    scores: Sequence[Tensor]
    errors: Sequence[Tensor] | None
    without: Sequence[float]


@dataclass(frozen=True)
class ServedNarrowing:
    """Explains the words of an answer by each of the sources that are narrowed.

    Attributes:
        tower: The image tower, which asks for the answer that is explained.
        method: The method.
        scored: The log-probabilities of the answer.
        inputs: The pixels of the image, or of the sheet with several.
        sources: The sources.
    """

    tower: FunctionImageTower
    method: SegmentMethod
    scored: ScoredAnswer
    inputs: Inputs
    sources: Sequence[Source]

    def words(self, others: list[Image.Image], report: OnProgress) -> tuple[AnswerWord, ...]:
        """Explain all words, and compare their log-probabilities with other images."""
        scored = self.scored
        count = len(scored.answer.words)
        with scored.reporting(report, self.questions() + len(others), self.continued()):
            of_image = self._of_image()
            of_prompt = self._of_prompt()
            of_earlier = self._of_earlier()
            (blank,) = _lists(scored.score([self.blank]))
            at_blank = self._at_blank()
            elsewhere = _lists(scored.score([scored.with_image(image) for image in others]))

        by_source = {"image": of_image, "prompt": of_prompt, "earlier": of_earlier}
        used = {name: scores for name, scores in by_source.items() if name in self.sources}
        words = []
        for number, word in enumerate(scored.answer.words):
            rows = [row[count + number] for row in elsewhere]
            words.append(
                AnswerWord(
                    text=word.text,
                    tokens=word.tokens,
                    log_probability=self.row[count + number],
                    with_blank_image=blank[count + number],
                    with_other_images=sum(rows) / len(rows) if rows else None,
                    value=self.row[number],
                    without={name: scores.without[number] for name, scores in used.items()},
                    at_blank=at_blank[number],
                    grid=of_image.scores[number],
                    prompt=of_prompt.scores[number],
                    earlier=of_earlier.scores[number],
                    special=0.0,
                    error=_errors(by_source, used, number),
                )
            )

        return tuple(words)

    @cached_property
    def prompt(self) -> PromptWords:
        """The words of the prompt."""
        return PromptWords(self.scored.question, lambda questions: _lists(self.scored.score(questions)))

    @cached_property
    def row(self) -> list[float]:
        """The value of the target for each word, and then the log-probability of each, for the question as it is."""
        (row,) = _lists(self.scored.score([self.scored.question]))
        return row

    @property
    def values(self) -> list[float]:
        """The value of the target for each word."""
        return self.row[: len(self.scored.answer.words)]

    @property
    def of_words(self) -> SegmentMethod:
        """The method for words, which are neither segments nor refined."""
        return replace(self.method, units="words")

    @cached_property
    def side(self) -> Side:
        """The image, whose score are the values of all words."""
        return Side(TargetModel.of(self.tower), self.tower.trace(self.inputs), as_they_are)

    @cached_property
    def units(self) -> Units | Segments:
        """The units of the image. Refined ones depend on the target, so that they are found by requests."""
        targets = replace(self.side, score=partial(_first, len(self.scored.answer.words)))
        return self.method.units_of(targets)

    @cached_property
    def blank(self) -> Question:
        """The question with an image of the mean color."""
        gray = replace(self.inputs, values=torch.zeros_like(self.inputs.values))
        return self.scored.with_image(self.tower.images(gray)[0])

    def _of_image(self) -> SourceScores:
        if "image" not in self.sources:
            grid = cells_of(self.side.units)
            none = torch.zeros(len(self.scored.answer.words), grid.count, device="cpu")
            return _nothing(list(grid.unfold(none)))

        estimates = self.method.estimates(self.side, self.units)
        return SourceScores(
            _maps(estimates.scores, self.units),
            None if estimates.error is None else _maps(estimates.error, self.units),
            self.method.nothing(self.side, self.units)[0].tolist(),
        )

    def _of_prompt(self) -> SourceScores:
        count = len(self.prompt.words)
        nothing = _nothing([torch.zeros(count, device="cpu") for _ in self.scored.answer.words])
        if "prompt" not in self.sources:
            return nothing
        if not count:  # a conversation of an image alone, so that nothing is left out
            return replace(nothing, without=self.values)

        game = played(self.prompt, self.method)
        errors = None if game.errors is None else list(game.errors.T)
        return SourceScores(list(game.scores.T), errors, game.without)

    def _of_earlier(self) -> SourceScores:
        if "earlier" not in self.sources:
            return _nothing([torch.zeros(number, device="cpu") for number in range(len(self.scored.answer.words))])

        known = self._known(self.scored.question)
        known.add(0, (), self.values)
        if getattr(self.method, "error", None) is None:  # else how many are asked for depends on their values
            known.fetch(self._asked_words)
        return self._of_each(known)

    def _of_each(self, known: KnownWords) -> SourceScores:
        """Return what the earlier words gave to each word; the first word has none."""
        nothing = torch.zeros(0, device="cpu")
        scores = [nothing]
        errors = [nothing]
        without = [known.values[0, ()]]
        is_estimated = False
        texts = [word.text for word in self.scored.answer.words]
        for number in range(1, len(texts)):
            game = played(EarlierWords(texts[:number], known), self.method)
            scores.append(game.scores[:, 0])
            errors.append(torch.zeros(number, device="cpu") if game.errors is None else game.errors[:, 0])
            without += game.without
            is_estimated = is_estimated or game.errors is not None

        return SourceScores(scores, errors if is_estimated else None, without)

    def _known(self, question: Question) -> KnownWords:
        """Return the values of words after some of the earlier ones, which the server is asked for."""
        count = len(self.scored.answer.words)

        def ask(words: Sequence[WordAfter]) -> Iterator[tuple[int, list[float]]]:
            answers = [
                (self.scored.answer.with_words([*kept, *range(number, count)]), len(kept)) for number, kept in words
            ]
            return self.scored.continued(question, answers)

        return KnownWords(ask)

    def _at_blank(self) -> list[float]:
        """Return the value of each word without any of the sources."""
        question = self.blank if "image" in self.sources else self.scored.question
        if "prompt" in self.sources:
            question = question.with_texts(self.prompt.with_words(()).texts)

        (row,) = _lists(self.scored.score([question]))
        values = row[: len(self.scored.answer.words)]
        if "earlier" not in self.sources:
            return values

        known = self._known(question)
        known.add(0, (), values[:1])
        known.fetch((number, ()) for number in range(len(values)))
        return [known.values[number, ()] for number in range(len(values))]

    def questions(self) -> int:
        """Return how many changed images and prompts are asked for at most, with the image that is asked for again."""
        of_games = 0
        if "image" in self.sources:
            units = self.side.units if self.method.refined else self.units  # before the first request that finds them
            of_games += self.method.changed_inputs(units.count)
        if "prompt" in self.sources and self.prompt.words:
            of_games += self.of_words.changed_inputs(len(self.prompt.words))

        blank = 1 if "image" not in self.sources or "prompt" in self.sources else 0
        return 1 + of_games + blank

    def continued(self) -> int:
        """Return how many requests are sent for answers that lack words."""
        if "earlier" not in self.sources:
            return 0

        words = self.scored.answer.words
        alone = list(range(1, len(words)))  # without any source, each word is asked for after no other one
        asked = [*alone, *(number for number, _ in self._asked_words)]
        if self.scored.offer.way != "prefill":
            return len(asked)
        return sum(len(words[number].tokens) for number in asked)

    @cached_property
    def _asked_words(self) -> list[WordAfter]:
        """The words that are asked for after some of the earlier ones, found by playing without the server."""
        asked: list[WordAfter] = []
        count = len(self.scored.answer.words)
        is_whole = self.scored.offer.way != "prefill"

        def ask(words: Sequence[WordAfter]) -> Iterator[tuple[int, list[float]]]:
            asked.extend(words)
            for place, (number, _) in enumerate(words):
                yield place, [0.0] * (count - number if is_whole else 1)

        known = KnownWords(ask)
        known.add(0, (), [0.0] * count)
        self._of_each(known)
        return asked


def _first(count: int, values: Tensor) -> Tensor:
    """Return what is explained of the words, without their log-probabilities, which follow."""
    return values[..., :count]


def _lists(rows: Sequence[Tensor]) -> list[list[float]]:
    return [row.tolist() for row in rows]


def _nothing(scores: Sequence[Tensor]) -> SourceScores:
    """Return the scores of a source that is not explained."""
    return SourceScores(scores, None, [])


def _maps(scores: UnitValues, units: Units | Segments) -> list[Tensor]:
    """Return the scores of units for each word as maps of the one image."""
    if isinstance(units, Segments):
        return list(units.grid.unfold(units.on_grid(scores)[0].T))
    return list(cells_of(units).unfold(scores[0].T))


def _errors(by_source: dict[str, SourceScores], used: dict[str, SourceScores], number: int) -> WordErrors | None:
    """Return the errors of the scores of a word; None if they are no estimates, or if there were too few draws."""
    if all(scores.errors is None for scores in used.values()):
        return None

    errors = {
        name: torch.zeros_like(scores.scores[number]) if scores.errors is None else scores.errors[number]
        for name, scores in by_source.items()
    }
    return WordErrors.known(errors["image"], errors["prompt"], errors["earlier"])
