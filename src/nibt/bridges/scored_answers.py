"""The log-probabilities of the words of an answer of a served model, each of which is asked once."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor

from nibt.bridges.answer_servers import AnswerServer, Continued, Offer, ServedAnswer, Step, Token, TokenValue, Values
from nibt.bridges.finished_requests import FinishedRequests, name_of
from nibt.bridges.questions import Question
from nibt.errors import BadInput, RequestRefused, ServerFailed, Unsupported, first_line
from nibt.generators.answers import TOKENS_PER_WORD
from nibt.generators.forced import AnswerRequest
from nibt.generators.results.answer import ServerRecord
from nibt.models._functions import ImageFunction
from nibt.preprocessing.captions import WORD
from nibt.progress import OnProgress, Progress, listener, listening, no_progress
from nibt.types import RUNNER_UP, Embedding

Box: TypeAlias = tuple[int, int, int, int]
"""The left, upper, right and lower edge of an image on a sheet, in pixels."""
_FEW = 4  # tokens that are written to try a server, if the answer is given


class ScoredAnswer(ImageFunction):
    """The log-probabilities of the words of an answer as a function of the question, each of which is asked once."""

    answer: ServedAnswer
    offer: Offer

    def __init__(
        self, server: AnswerServer, question: Question, finished: FinishedRequests, boxes: Sequence[Box] = ()
    ) -> None:
        super().__init__()
        self.server = server
        self.question = question
        self.boxes = boxes
        """Where several images are on a sheet, which then stands for them; empty for one image."""
        self.finished = finished
        self.requests = server.sent
        self.tokens = server.tokens_used or 0
        self.noise = 0.0
        self.scores: dict[str, Values] = {}
        """What was scored, by the name of the request."""
        self.rows: dict[str, Tensor] = {}
        """What is explained of each word, and after it the log-probability of each, by the name of the request."""
        self.on_score: OnProgress = no_progress
        self.expected: int | None = None
        self.is_cut = False
        self.others: tuple[tuple[int, Token], ...] = ()
        """The token that the first token of each word is compared with, by its place; empty without a comparison."""
        self.register_buffer("probe", torch.zeros(1))

    def ask(self, request: AnswerRequest, known: Offer | None, before: ServedAnswer | None) -> None:
        """Let the server write, find out what it offers unless that is known, and read the answer that is explained.

        The tokens of the answer that it wrote ``before`` are known, also if it does not show those of given answers.
        """
        given = request.answer
        written = None
        if given is None or known is None:
            own = self.server.write(self.question, _FEW if given is not None else TOKENS_PER_WORD * request.most)
            whole = self.server.answer(own)
            written = whole.first(request.most)
            self.is_cut = given is None and written != whole
            known = self.server.offer(self.question, own, written, known)

        self.offer = known
        self.noise = known.noise
        if given is not None:
            try:
                self.answer = self.server.read(self.question, given, known.way)
            except Unsupported:
                if before is None or before.text.strip() != given:
                    raise
                self.answer = before
        else:
            assert written is not None
            self.answer = written

        if not self.answer.words:
            raise BadInput(f"the answer {self.answer.text!r:.80} has no word: give another one")

    def compare(self, against: str) -> list[str]:
        """Compare each word with another word, or with the second best one; return words that are this one."""
        if against != RUNNER_UP and len(WORD.findall(against)) != 1:
            raise BadInput(f"against must be one word (got {against!r}), or {RUNNER_UP}")

        steps = self.server.steps(self.question, self.answer, self.offer.way)
        others: list[tuple[int, Token]] = []
        itself: list[str] = []
        for word in self.answer.words:
            place = word.tokens[0]
            other = steps[place].runner_up if against == RUNNER_UP else self._first_of(against, place)
            if other is None:
                raise Unsupported(
                    f"the server shows no other token than that of {word.text!r}: set top to at least 2 (--load top=2)"
                )

            others.append((place, other))
            if other.key == steps[place].token.key:
                itself.append(repr(word.text))

        if len(itself) == len(others):
            raise BadInput(f"{self.answer.text!r} is compared with itself (got against={against!r}): give another word")

        self.others = tuple(others)
        return itself

    def _first_of(self, word: str, place: int) -> Token:
        """Return the first token of another word at a place of the answer."""
        before = self.answer.before(place)
        blank = "" if not before or before[-1:].isspace() else " "
        try:
            read = self.server.read(self.question, f"{before}{blank}{word}", self.offer.way)
        except Unsupported as error:
            raise Unsupported(
                f"{self.server.called} does not show the tokens of the word {word!r}: compare with {RUNNER_UP}, or "
                "leave against out"
            ) from error

        return read.tokens[min(place, read.words[-1].tokens[0])]

    def repeat(self) -> None:
        """Ask the question once more, after others, so that the server has not kept the answer: it shows the noise."""
        values = self.server.score(self.question, self.answer, self.offer.way)
        before = self.scores[self._name_of(self.question)][: len(values)]
        differences = [abs(first.value - last.value) for first, last in zip(before, values, strict=True)]
        self.noise = max(self.noise, *differences)

    def with_image(self, image: Image.Image) -> Question:
        """Return the question with another image, or with those that are on another sheet."""
        return self.question.with_images([image.crop(box) for box in self.boxes] or [image])

    def embed_images(self, images: list[Image.Image]) -> Embedding:
        return torch.stack(self.score([self.with_image(image) for image in images]))

    def score(self, questions: Sequence[Question]) -> list[Tensor]:
        """Return the values of the target for each word, and then the log-probability of each, for some questions."""
        names = [self._name_of(question) for question in questions]
        new: dict[str, Question] = {}
        for name, question in zip(names, questions, strict=True):
            if name in self.rows or name in new:
                continue
            values = self.finished.get(name)
            if values is None:
                new[name] = question
            else:
                self._keep(name, values)

        asked = list(new)
        with self._takes_prompt(new.values()):
            scores = self.server.scores(list(new.values()), self.answer, self.offer.way, self.others)
            for number, values in scores:
                self.finished.add(asked[number], values)
                self._keep(asked[number], values)

        return [self.rows[name] for name in names]

    def _keep(self, name: str, values: Values) -> None:
        """Keep the log-probabilities with a question, and report it.

        Each has a tensor of its own: the page stops computations at their next tensor.
        """
        words = [sum(values[token].value for token in word.tokens) for word in self.answer.words]
        count = len(self.answer.tokens)
        compared = [
            values[place].value - other.value for (place, _), other in zip(self.others, values[count:], strict=True)
        ]
        self.rows[name] = torch.tensor([*(compared or words), *words], dtype=torch.float32, device="cpu")
        self._report(name, values)

    def continued(self, question: Question, answers: Sequence[Continued]) -> Iterator[tuple[int, list[float]]]:
        """Yield the values of the target for the last words of answers that lack earlier words, as they come."""
        names = [self._name_of(question, continued) for continued in answers]
        asked: list[int] = []
        for number, name in enumerate(names):
            values = self.scores.get(name) or self.finished.get(name)
            if values is None:
                asked.append(number)
            else:
                self._report(name, values)
                yield number, [each.value for each in values]

        left = [answers[number] for number in asked]
        with self._takes_prompt([question]):
            for place, steps in self.server.word_steps(question, left, self.offer.way, bool(self.others)):
                number = asked[place]
                answer, first = answers[number]
                first_word = len(self.answer.words) - len(answer.words) + first
                values = [self._target(each, word) for word, each in enumerate(steps, first_word)]
                self.finished.add(names[number], values)
                self._report(names[number], values)
                yield number, [each.value for each in values]

    @contextmanager
    def _takes_prompt(self, questions: Iterable[Question]) -> Iterator[None]:
        """Say what to do if a server refuses requests inside ``with``, and one of them has a prompt without words."""
        try:
            yield
        except RequestRefused as error:
            if all(question.text.strip() for question in questions):
                raise
            raise Unsupported(
                f"{self.server.called} takes no prompt without words ({first_line(error)}): explain the image alone "
                "(sources=image as a loading option)"
            ) from error

    def _target(self, steps: Sequence[Step], number: int) -> TokenValue:
        """Return the value of the target for a word, from what is shown at its tokens."""
        if not self.others:
            values = [step.value(step.token) for step in steps]
            return TokenValue(sum(value.value for value in values), any(value.is_bound for value in values))

        first = steps[0]
        own = first.value(first.token)
        other = first.value(self.others[number][1])
        return TokenValue(own.value - other.value, own.is_bound or other.is_bound)

    def _report(self, name: str, values: Values) -> None:
        """Keep what was scored, and report how many requests are done."""
        self.scores[name] = values
        self.on_score(Progress(len(self.scores), self.expected))

    def _name_of(self, question: Question, continued: Continued | None = None) -> str:
        """Return the name of a request, which depends on all that changes its answer."""
        answer, first = continued or (self.answer, None)
        keys = [repr(token.key) for token in answer.tokens]
        top = str(self.server.top) if self.offer.way == "prefill" or self.others else ""  # of which bounds depend
        draws = str(self.server.draws or "")
        others = [f"{place} {token.key!r}" for place, token in self.others]
        images = [part for image in question.images for part in (f"{image.width} x {image.height}", image.tobytes())]
        words = "" if first is None else f"from word {first}, of {self.answer.text}"
        return name_of(question.key, answer.text, *keys, words, self.offer.way, top, draws, *others, *images)

    @contextmanager
    def reporting(self, report: OnProgress, questions: int, continued: int = 0) -> Iterator[None]:
        """Report how many requests are done, inside ``with``: to the listener of the call if there is none.

        Before the first of them is sent, they must be within the limits.

        Args:
            report: What is called.
            questions: The number of changed images and prompts.
            continued: The number of requests for answers that lack words.
        """
        self.check_limits(questions, continued)
        self.expected = len(self.scores) + questions + continued
        self.on_score = listener() if report is no_progress else report
        with listening(no_progress):  # of the loops of methods, which know no requests
            yield
        self.on_score = no_progress

    def check_limits(self, questions: int, continued: int = 0) -> None:
        """Check that so many requests are within the limits, before the first of them is sent."""
        server = self.server
        needed = continued + questions * server.requests_for(self.answer, self.offer.way)
        for noun, limit, used, more in (
            ("requests", server.requests, server.sent, needed),
            ("tokens", server.tokens, server.tokens_used or 0, needed * server.largest),
        ):
            if limit is not None and used + more > limit:
                raise ServerFailed(
                    f"the changed images, prompts and answers take about {more:,} more {noun}, and the limit of "
                    f"{limit:,} leaves {max(0, limit - used):,}: set {noun} higher, use fewer cells, explain the image "
                    "alone (sources=image), or a shorter answer (max_words)"
                )

    def record(self) -> ServerRecord:
        """Return what the server was asked."""
        values = [value for row in self.scores.values() for value in row]
        tokens = self.server.tokens_used
        return {
            "way": self.offer.way,
            "requests": self.server.sent - self.requests,
            "tokens": None if tokens is None else tokens - self.tokens,
            "noise": self.noise,
            "bounds": sum(value.is_bound for value in values) / len(values),
        }
