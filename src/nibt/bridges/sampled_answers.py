"""Servers that show texts alone: how often the answers to a changed question have each word.

The log-probability of a word is then that of an answer that has it, estimated from answers that are drawn.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nibt.bridges.answer_servers import (
    SAMPLES,
    AnswerServer,
    Continued,
    Offer,
    Others,
    Reply,
    ServedAnswer,
    Step,
    Token,
    TokenValue,
    Values,
    choices_of,
)
from nibt.bridges.connection import counted
from nibt.bridges.questions import Question
from nibt.errors import BadInput, RequestRefused, Unsupported
from nibt.generators.answers import TOKENS_PER_WORD
from nibt.preprocessing.captions import word_pieces, words_of_text
from nibt.records import JsonObject
from nibt.types import Source

ONE_SAMPLE = "sample"
"""The way in which one request gives one answer."""
DRAWS = 8
_FURTHER = 16  # tokens that a drawn answer may have besides those of the explained one


@dataclass(frozen=True)
class SampledAnswerServer(AnswerServer):
    """A server that writes answers about images in the shape of OpenAI's ``chat/completions``, and shows them alone.

    It has the options of ``AnswerServer``, of which ``top`` has no effect. For each changed question, answers are drawn
    at the temperature 1. If k of n answers have a word, its log-probability is estimated by log((k + 1/2) / (n + 1)).
    The second one of two equal words is in an answer that has the word twice.
    """

    content: ClassVar[str] = "an answer"
    sources: ClassVar[tuple[Source, ...]] = ("image", "prompt")

    @property
    def count(self) -> int:
        """The number of answers that are drawn for each question."""
        return self.draws or DRAWS

    def write(self, question: Question, tokens: int, **entries: Any) -> Reply:
        body = self._asked(question, max_tokens=tokens, temperature=0, **entries)
        ((texts, read),) = self.post("chat/completions", [body], self._texts)
        try:
            steps = [Step(token, {token.key: 0.0}, {token.key: token.data}) for token in words_of(texts[0]).tokens]
        except ValueError as error:
            raise BadInput("the model wrote no word: give another prompt") from error
        return Reply(texts[0], tuple(steps), read)

    def read(self, question: Question, text: str, way: str) -> ServedAnswer:
        return words_of(text)

    def steps(self, question: Question, answer: ServedAnswer, way: str) -> list[Step]:
        raise Unsupported(
            f"{self.called} is asked for texts alone (way=samples), so words cannot be compared with others: leave "
            "against out"
        )

    def word_steps(
        self, question: Question, continued: Sequence[Continued], way: str, has_others: bool
    ) -> Iterator[tuple[int, list[list[Step]]]]:
        raise Unsupported(f"{self.called} is asked for texts alone (way=samples), and continues no answer")

    def offer(self, question: Question, own: Reply, answer: ServedAnswer, known: Offer | None = None) -> Offer:
        """Find out whether the image has an effect, and whether one request gives several answers."""
        if known is not None:
            return known

        note = self.check_seen(question, own)
        return Offer(self.sampling(question), 0.0, (note,) if note else ())

    def check_seen(self, question: Question, own: Reply) -> str:
        """Check that the image is counted among the tokens that are read, or that another one changes the answer.

        Returns:
            A note if the first is not so.
        """
        other = self.write(question.with_noise(), len(own.steps) * TOKENS_PER_WORD)
        without = self.read_without_image(question)
        if own.read is not None and without is not None and own.read > without:
            return ""
        if other.text == own.text:
            raise Unsupported(
                f"{self.called} does not see the image, since its answer to another one is the same, and it does not "
                f"count the image among the tokens that it reads: check that the model {self.name!r} reads images"
            )
        return "whether the server counts the image among the tokens that it reads is not known"

    def sampling(self, question: Question) -> str:
        """Return whether one request gives several answers (``samples``), or each gives one (``sample``)."""
        body = self._asked(question, max_tokens=1, temperature=1, n=self.count)
        try:
            ((texts, _),) = self.post("chat/completions", [body], self._texts)
        except RequestRefused:
            return ONE_SAMPLE
        return SAMPLES if len(texts) == self.count else ONE_SAMPLE

    def requests_for(self, answer: ServedAnswer, way: str) -> int:
        return 1 if way == SAMPLES else self.count

    def scores(
        self, questions: Sequence[Question], answer: ServedAnswer, way: str, others: Others = ()
    ) -> Iterator[tuple[int, Values]]:
        each = self.requests_for(answer, way)
        several = {"n": self.count} if way == SAMPLES else {}
        tokens = len(answer.tokens) * TOKENS_PER_WORD + _FURTHER
        asked = [self._asked(question, max_tokens=tokens, temperature=1, **several) for question in questions]
        bodies = [body for body in asked for _ in range(each)]
        for number, drawn in self.together(bodies, [each] * len(questions), self._texts):
            texts = [text for one, _ in drawn for text in one]
            if len(texts) != self.count:
                raise RequestRefused(
                    f"{self.called} must give {self.count} answers to one question (got {len(texts)}), as when it was "
                    "tried: try again, or choose another server"
                )
            yield number, sampled_values(answer, texts)

    def _asked(self, question: Question, **entries: Any) -> JsonObject:
        """Return a request for texts alone."""
        return {"model": self.name, "messages": question.messages(), **entries}

    def _texts(self, data: Any) -> tuple[list[str], int | None]:
        """Return the texts of answers, and how many tokens were read for them; None if the server does not say so."""
        texts = [text for _, text in choices_of(data)]
        return texts, counted((data.get("usage") or {}).get("prompt_tokens"))


def words_of(text: str) -> ServedAnswer:
    """Return an answer whose tokens are its words."""
    return ServedAnswer.of(text, [Token(piece.encode()) for piece in word_pieces(text)])


def sampled_values(answer: ServedAnswer, texts: Sequence[str]) -> Values:
    """Estimate the log-probability of each word of an answer from answers that were drawn."""
    counts = [Counter(_words(text)) for text in texts]
    before: Counter[str] = Counter()
    values: Values = []
    for word in (one for token in answer.tokens for one in _words(token.data.decode())):
        before[word] += 1
        share = (sum(count[word] >= before[word] for count in counts) + 0.5) / (len(texts) + 1)
        values.append(TokenValue(math.log(share)))
    return values


def _words(text: str) -> list[str]:
    return [word.casefold() for word in words_of_text(text)]
