"""Models that write answers behind a server: what they write, and the log-probabilities of an answer for any image.

Servers of the shape of OpenAI's ``chat/completions`` differ in what they offer, and ignore in silence what they do not
know. What a server offers is therefore tried before it is used.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from nibt.bridges.connection import Connection, counted
from nibt.bridges.questions import Question
from nibt.data.units import Word
from nibt.errors import BadInput, BadOption, RequestRefused, Unsupported, first_line
from nibt.options import OneOf, Range
from nibt.preprocessing.captions import decoded_offsets, words_by_offsets
from nibt.records import JsonObject
from nibt.types import SOURCES, Source

WAYS = ("grammar", "prompt_logprobs", "prefill")
"""The ways in which a server gives the log-probabilities of an answer, the first of which that works is used."""
SAMPLES = "samples"
"""The way of servers that show texts alone, whose answers are drawn: by one request for each question, if they can."""
SAME = 0.2
"""The largest difference, in nats, between two log-probabilities of one token that a server may give."""
_ROUNDING = 0.01  # nats above 0
_DRAWN_AGAIN = 15  # times at most, where a half of the answers may end at once
_ABSENT = -9999.0  # stands for tokens that are not among those that OpenAI shows
Key: TypeAlias = int | bytes
_Read = TypeVar("_Read")


class AnswerEnds(Unsupported):
    """An answer ends at once, and the server shows no log-probabilities there."""


@dataclass(frozen=True)
class Token:
    """A token by its bytes, and by its id if the server shows it."""

    data: bytes
    id: int | None = None

    @property
    def key(self) -> Key:
        """What tells the token apart from others: never its text, which special tokens may lack."""
        return self.data if self.id is None else self.id


@dataclass(frozen=True)
class Step:
    """A token that was written or read, and the log-probabilities that are shown at its place.

    Attributes:
        token: The token.
        shown: The log-probabilities of the most probable tokens, and of the token itself.
        pieces: The bytes of these tokens.
    """

    token: Token
    shown: Mapping[Key, float]
    pieces: Mapping[Key, bytes]

    @property
    def runner_up(self) -> Token | None:
        """The most probable other token; None if no other one is shown."""
        others = self.shown.keys() - {self.token.key}
        if not others:
            return None
        best = max(others, key=lambda key: self.shown[key])
        return Token(self.pieces[best], best if isinstance(best, int) else None)

    def value(self, token: Token) -> "TokenValue":
        """Return the log-probability of a token, or the lowest one that is shown, which it does not exceed."""
        if token.key in self.shown:
            return TokenValue(self.shown[token.key])
        return TokenValue(min(self.shown.values()), is_bound=True)

    def read_as(self, token: Token, is_first: bool) -> "Step":
        """Return the step with a given token, whose first one may lack the blanks that it has after other words."""
        piece = token.data.lstrip()
        alike = [key for key, data in self.pieces.items() if data.lstrip() == piece] if is_first else []
        if not piece or not alike:
            return replace(self, token=token)

        best = max(alike, key=lambda key: self.shown[key])
        return replace(self, token=Token(self.pieces[best], best if isinstance(best, int) else None))

    def difference(self, other: "Step") -> float:
        """Return the largest difference of the log-probabilities of tokens that both show."""
        common = self.shown.keys() & other.shown.keys()
        return max((abs(self.shown[key] - other.shown[key]) for key in common), default=math.inf)


@dataclass(frozen=True)
class TokenValue:
    """The log-probability of a token, or a number that it does not exceed."""

    value: float
    is_bound: bool = False


Values: TypeAlias = list[TokenValue]
"""The log-probabilities of the tokens of an answer, and then of others at some of their places."""
Others: TypeAlias = Sequence[tuple[int, Token]]
"""Other tokens than those of an answer, with their places in it."""


@dataclass(frozen=True)
class Reply:
    """What a server writes: the text, its tokens, and how many tokens it has read (None if it does not say so)."""

    text: str
    steps: tuple[Step, ...]
    read: int | None


@dataclass(frozen=True)
class ServedAnswer:
    """The tokens of an answer.

    Attributes:
        text: The answer.
        tokens: Its tokens, without those after its end.
        ends: Where each token ends, in bytes of the text.
    """

    text: str
    tokens: tuple[Token, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, text: str, tokens: Sequence[Token]) -> "ServedAnswer":
        """Find the tokens of a text in it; servers may leave out blanks at the start of either.

        Raises:
            ValueError: They do not spell the text.
        """
        data = text.encode()
        ends: list[int] = []
        end: int | None = 0
        for token in tokens:
            if not data[end:].strip():
                break  # what follows the text ends the answer

            end = _end(data, end, token.data)
            if end is None:
                break
            ends.append(end)

        if end is None or data[end:].strip():
            raise ValueError(f"the tokens {b''.join(token.data for token in tokens)!r:.80} do not spell {text!r:.80}")
        return cls(text, tuple(tokens[: len(ends)]), tuple(ends))

    def before(self, number: int) -> str:
        """Return the text before a token.

        Raises:
            Unsupported: The token is in the middle of a character, where no text can be cut.
        """
        try:
            return self.text.encode()[: self.ends[number - 1] if number else 0].decode()
        except UnicodeDecodeError as error:
            raise Unsupported(
                f"token {number} of the answer is in the middle of a character, so the answer cannot be sent up to it: "
                "choose another answer, or a server that scores whole answers"
            ) from error

    @property
    def words(self) -> tuple[Word, ...]:
        """The words with the positions of their tokens."""
        data = self.text.encode()
        decoded = [data[:end].decode(errors="replace") for end in (0, *self.ends)]
        _, offsets = decoded_offsets([*decoded[:-1], self.text])
        texts = [token.data.decode(errors="replace") for token in self.tokens]
        return words_by_offsets(self.text, texts, [True] * len(texts), offsets)

    def first(self, count: int) -> "ServedAnswer":
        """Return the answer up to a number of words."""
        words = self.words
        if count >= len(words):
            return self
        last = max(words[count - 1].tokens) + 1
        return ServedAnswer(self.before(last), self.tokens[:last], self.ends[:last])

    def with_words(self, numbers: Sequence[int]) -> "ServedAnswer":
        """Return the answer with only some of its words, each with the tokens that stand between it and the last word.

        Raises:
            Unsupported: A word that is left out and one that is kept share a character, so that no text is left.
        """
        words = self.words
        tokens: list[Token] = []
        for number in numbers:
            start = max(words[number - 1].tokens) + 1 if number else 0
            tokens += self.tokens[start : max(words[number].tokens) + 1]

        try:
            return ServedAnswer.of(b"".join(token.data for token in tokens).decode().strip(), tokens)
        except ValueError as error:
            raise Unsupported(
                f"words of the answer {self.text!r:.80} cannot be left out, since their tokens are no text: explain "
                "the image alone (sources=image)"
            ) from error


def _end(data: bytes, start: int, piece: bytes) -> int | None:
    """Return where a token ends that begins at ``start``; None if another text stands there."""
    if data.startswith(piece, start):
        return start + len(piece)
    blanks = len(data) - start - len(data[start:].lstrip())
    piece = piece.lstrip()
    return start + blanks + len(piece) if piece and data.startswith(piece, start + blanks) else None


Continued: TypeAlias = tuple[ServedAnswer, int]
"""An answer of which some words are left out, and the number of the first word after them."""


@dataclass(frozen=True)
class ImageEffect:
    """What another image changes.

    Attributes:
        change: The largest change of a log-probability, in nats.
        noise: The same for two requests with one image.
        has_same_tokens: Whether the same tokens are shown for both images.
        read: The number of tokens that are read with the image; None if the server does not say so.
        read_without: The same without the image.
    """

    change: float
    noise: float
    has_same_tokens: bool
    read: int | None
    read_without: int | None

    @property
    def is_counted(self) -> bool | None:
        """Whether the image is counted among the tokens that are read; None if the server does not say so."""
        return None if self.read is None or self.read_without is None else self.read > self.read_without

    @property
    def is_seen(self) -> bool:
        """Whether the image changes more than noise does; one that is not counted must change more than that."""
        is_noise = self.has_same_tokens and self.change <= self.noise
        return not is_noise and not (self.is_counted is False and self.change <= SAME)

    @property
    def about(self) -> str:
        """What another image changes, as the end of a sentence."""
        if not self.change:
            return "changes no log-probability"
        nats = f"changes log-probabilities by at most {self.change:.2g} nats"
        if self.change <= self.noise:
            return f"{nats}, and equal requests differ by {self.noise:.2g}"
        return f"{nats}, and no more tokens are read with an image than without"


@dataclass(frozen=True)
class Offer:
    """What a server was found to offer.

    Attributes:
        way: How it gives the log-probabilities of an answer, one of ``WAYS``.
        noise: How far the log-probabilities of an answer that is given differ from those when it was written, in nats.
        notes: What it does not offer.
    """

    way: str
    noise: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AnswerServer(Connection):
    """A server that writes answers about images in the shape of OpenAI's ``chat/completions``, with log-probabilities.

    It has the options of ``Connection``, too. Log-probabilities of a given answer come in one of three ways:

    * ``grammar``: one request, whose grammar allows only the ids of the answer, as llama.cpp takes it.
    * ``prompt_logprobs``: one request with the whole answer, as vLLM takes it.
    * ``prefill``: one request for each token, with the answer before it. If a token is not among those that are shown,
      its log-probability is set to the lowest of these, which it does not exceed.

    Args:
        top: The number of tokens that are shown at each place; many servers allow 20.
        way: The way in which answers are scored; None means the first that the server offers. ``samples`` is for
            servers that show no log-probabilities: see ``SampledAnswerServer``.
        draws: With ``samples``, the number of answers that are drawn for each question; None means 8.

    Examples:
        >>> AnswerServer("http://localhost:8000/v1", "my-llava").top
        20
    """

    content: ClassVar[str] = "an answer with log-probabilities"
    sources: ClassVar[tuple[Source, ...]] = SOURCES
    """What can be explained."""

    top: Annotated[int, Range(1, 1_000_000)] = 20
    way: Annotated[str | None, OneOf((*WAYS, SAMPLES, None))] = None
    draws: Annotated[int, Range(2, 64)] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws is not None and self.way != SAMPLES:
            raise BadOption(f"draws has no effect with way={self.way}: leave draws out, or set way to samples")

    def write(self, question: Question, tokens: int, **entries: Any) -> Reply:
        """Write at most ``tokens`` tokens, always the most probable one.

        Raises:
            Unsupported: The server shows no log-probabilities.
        """
        return self._replies([self._body(question, max_tokens=tokens, **entries)])[0]

    def answer(self, reply: Reply) -> ServedAnswer:
        """Return the tokens of what the server wrote."""
        try:
            answer = ServedAnswer.of(reply.text, [step.token for step in reply.steps])
        except ValueError as error:
            raise RequestRefused(f"{self.called} shows other tokens than it writes: {error}") from error

        if not answer.text.strip():
            raise BadInput("the model wrote no word: give another prompt")
        return answer

    def read(self, question: Question, text: str, way: str) -> ServedAnswer:
        """Return the tokens of a given answer.

        Raises:
            Unsupported: The server does not show them.
        """
        try:
            if way == "prompt_logprobs":
                body = self._whole(question, text)
                steps = self.post("chat/completions", [body], lambda data: _spelling(text, _prompt_steps(data)))[0]
                tokens = [step.token for step in steps]
            else:
                body = {"model": self.name, "content": text, "with_pieces": True, "add_special": False}
                tokens = self.post("/tokenize", [body], _pieces)[0]
            return ServedAnswer.of(text, tokens)
        except (RequestRefused, ValueError) as error:
            raise Unsupported(
                f"{self.called} does not show the tokens of a given answer, as llama.cpp does with /tokenize "
                f"and vLLM with prompt_logprobs ({first_line(error)}): let it write the answer"
            ) from error

    def reads_tokens(self, address: str) -> bool:
        return not address.endswith("/tokenize")

    def score(self, question: Question, answer: ServedAnswer, way: str) -> Values:
        """Return the log-probabilities of the tokens of an answer."""
        ((_, values),) = self.scores([question], answer, way)
        return values

    def steps(self, question: Question, answer: ServedAnswer, way: str) -> list[Step]:
        """Return what is shown at the place of each token of an answer."""
        count = len(answer.tokens)
        if way == "grammar":
            return list(self.write(question, count, grammar=_rule(answer)).steps[:count])
        if way == "prompt_logprobs":
            body = self._whole(question, answer.before(count), self.top)
            return self.post("chat/completions", [body], partial(_steps_of, answer))[0]

        bodies = [self._body(question, answer.before(number), max_tokens=1) for number in range(count)]
        written = [reply.steps[0] for reply in self._replies(bodies)]
        return [replace(step, token=token) for step, token in zip(written, answer.tokens, strict=True)]

    def scores(
        self, questions: Sequence[Question], answer: ServedAnswer, way: str, others: Others = ()
    ) -> Iterator[tuple[int, Values]]:
        """Yield the log-probabilities of the tokens of an answer to each of some questions, by number, as they come.

        Those of ``others`` follow them.

        Raises:
            RequestRefused: The server reads or writes other tokens than those of the answer.
        """
        count = len(answer.tokens)
        if way == "grammar":
            rule = _rule(answer)
            bodies = [self._body(question, max_tokens=count, grammar=rule) for question in questions]
            for number, reply in self.answers("chat/completions", bodies, self._reply):
                yield number, [*self._forced(reply, answer), *_values_of(others, reply.steps)]
            return
        if way == "prompt_logprobs":
            shown = self.top if others else 0
            bodies = [self._whole(question, answer.before(count), shown) for question in questions]
            for number, steps in self.answers("chat/completions", bodies, partial(_steps_of, answer)):
                yield number, [*(step.value(step.token) for step in steps), *_values_of(others, steps)]
            return

        before = [answer.before(number) for number in range(count)]
        bodies = [self._body(question, text, max_tokens=1) for question in questions for text in before]
        for number, replies in self.together(bodies, [count] * len(questions), self._reply):
            steps = [reply.steps[0] for reply in replies]
            yield number, [*self._continued(replies, answer), *_values_of(others, steps)]

    def requests_for(self, answer: ServedAnswer, way: str) -> int:
        """Return how many requests score an answer to one question."""
        return len(answer.tokens) if way == "prefill" else 1

    def word_steps(
        self, question: Question, continued: Sequence[Continued], way: str, has_others: bool
    ) -> Iterator[tuple[int, list[list[Step]]]]:
        """Yield what is shown at the tokens of the last words of answers, by the number of the answer, as they come.

        Args:
            question: The question.
            continued: The answers, and of each the number of the first of the last words. Where a server continues
                answers (``prefill``), only this word is read.
            way: The way in which answers are scored.
            has_others: Whether other tokens are looked at, too.

        Raises:
            RequestRefused: The server reads or writes other words than those of an answer.
        """
        if way == "grammar":
            bodies = [
                self._body(question, max_tokens=len(answer.tokens), grammar=_rule(answer)) for answer, _ in continued
            ]
            for number, reply in self.answers("chat/completions", bodies, self._reply):
                answer, first = continued[number]
                self._forced(reply, answer)
                yield number, [[reply.steps[token] for token in word.tokens] for word in answer.words[first:]]
            return
        if way == "prompt_logprobs":
            shown = self.top if has_others else 0
            bodies = [self._whole(question, answer.text, shown) for answer, _ in continued]
            for number, steps in self.answers("chat/completions", bodies, _prompt_steps):
                answer, first = continued[number]
                yield number, self._steps_of_words(answer, first, steps)
            return

        bodies = []
        counts = []
        for answer, first in continued:
            tokens = answer.words[first].tokens
            bodies += [self._body(question, answer.before(token), max_tokens=1) for token in tokens]
            counts.append(len(tokens))

        for number, replies in self.together(bodies, counts, self._reply):
            answer, first = continued[number]
            tokens = answer.words[first].tokens
            shown = [reply.steps[0] for reply in replies]
            steps = [
                step.read_as(answer.tokens[token], is_first=token == 0)
                for step, token in zip(shown, tokens, strict=True)
            ]
            yield number, [steps]

    def _steps_of_words(self, answer: ServedAnswer, first: int, steps: Sequence[Step]) -> list[list[Step]]:
        """Return the steps of each of the last words of an answer, which the server may read as other tokens."""
        expected = [word.text for word in answer.words]
        try:
            last = _spelling(answer.text, steps)
            words = ServedAnswer.of(answer.text, [step.token for step in last]).words
        except ValueError as error:
            raise RequestRefused(f"{self.called} reads another text than {answer.text!r:.80}: {error}") from None

        if [word.text for word in words] != expected:
            raise RequestRefused(
                f"{self.called} reads {[word.text for word in words]} where the answer has {expected}: explain the "
                "image alone (sources=image)"
            )
        return [[last[token] for token in word.tokens] for word in words[first:]]

    def together(
        self, bodies: Sequence[JsonObject], counts: Sequence[int], read: Callable[[Any], _Read]
    ) -> Iterator[tuple[int, list[_Read]]]:
        """Send requests that belong together, ``counts`` of them in turn, and yield the replies to all of one group."""
        places = [(number, place) for number, count in enumerate(counts) for place in range(count)]
        groups: dict[int, dict[int, _Read]] = {}
        for request, reply in self.answers("chat/completions", bodies, read):
            number, place = places[request]
            group = groups.setdefault(number, {})
            group[place] = reply
            if len(group) == counts[number]:
                yield number, [group[place] for place in range(counts[number])]
                del groups[number]

    def offer(self, question: Question, own: Reply, answer: ServedAnswer, known: Offer | None = None) -> Offer:
        """Find out what the server offers, with a question and an answer that it has just written.

        If what it offers is ``known`` from another question, only the log-probabilities of the answer are tried.

        Raises:
            Unsupported: The server does not see the image, or does not give the log-probabilities of an answer.
        """
        if known is not None:
            noise = self.noise(question, own, answer, known.way)
            return replace(known, noise=max(noise, known.noise))

        notes = self.check_image(self.effect_of_image(question, own))
        self.check_temperature(self.effect_of_temperature(question, own))
        problems = []
        for way in WAYS if self.way is None else (self.way,):
            try:
                return Offer(way, self.tried(question, own, answer, way), notes)
            except (RequestRefused, Unsupported) as error:
                problems.append(f"{way}: {first_line(error)}")

        raise Unsupported(
            f"{self.called} does not give the log-probabilities of an answer ({'; '.join(problems)}): explain "
            "an answer of one token (max_words=1), or choose another server"
        )

    def effect_of_image(self, question: Question, own: Reply) -> ImageEffect:
        """Find out whether another image changes what the server shows, and whether images are counted."""
        first = own.steps[0]
        again = self.write(question, 1).steps[0]
        other = self.write(question.with_noise(), 1).steps[0]
        return ImageEffect(
            change=other.difference(first),
            noise=again.difference(first),
            has_same_tokens=other.shown.keys() == first.shown.keys(),
            read=own.read,
            read_without=self.read_without_image(question),
        )

    def read_without_image(self, question: Question) -> int | None:
        """Return how many tokens are read without the images; None if the server does not say so, or needs them."""
        try:
            return self.write(question.with_images([]), 1).read
        except (RequestRefused, BadInput):
            return None

    def effect_of_temperature(self, question: Question, own: Reply) -> float:
        """Return how much another temperature changes log-probabilities, in nats.

        The token is drawn there: if it is the end, where servers seldom show log-probabilities, it is drawn again.
        """
        for _ in range(_DRAWN_AGAIN):
            with suppress(AnswerEnds):
                return self._effect_of_temperature(question, own)
        return self._effect_of_temperature(question, own)

    def _effect_of_temperature(self, question: Question, own: Reply) -> float:
        return self.write(question, 1, temperature=1.0).steps[0].difference(own.steps[0])

    def check_image(self, effect: ImageEffect) -> tuple[str, ...]:
        """Check that another image changes what the server shows, and return a note if it does not count the image."""
        if not effect.is_seen:
            raise Unsupported(
                f"{self.called} does not see the image, since another one {effect.about}: check that the model "
                f"{self.name!r} reads images, and that the server passes them on"
            )
        if effect.is_counted is None:
            return ("whether the server counts the image among the tokens that it reads is not known",)
        if not effect.is_counted:
            return (
                "the server does not count the image among the tokens that it reads, although the image has effects",
            )
        return ()

    def check_temperature(self, effect: float) -> None:
        """Check that the log-probabilities are those of the model, and not those from which tokens are drawn."""
        if effect > SAME:
            raise Unsupported(
                f"the log-probabilities of {self.called} depend on the temperature (at 1, they differ by "
                f"{effect:.2g} nats): set it to show those of the model"
            )

    def tried(self, question: Question, own: Reply, answer: ServedAnswer, way: str) -> float:
        """Find out whether a way of scoring answers works, and return the noise.

        Raises:
            RequestRefused: The server does not take this way.
            Unsupported: It ignores what it is asked, or gives other numbers than in writing.
        """
        if way == "grammar":
            self._check_grammar(question, own.steps[0])
        return self.noise(question, own, answer, way)

    def noise(self, question: Question, own: Reply, answer: ServedAnswer, way: str) -> float:
        """Return how far the log-probabilities of an answer that is given differ from those when it was written.

        Raises:
            Unsupported: They differ by more than noise.
        """
        values = self.score(question, answer, way)

        noise = 0.0
        for token, step, given in zip(answer.tokens, own.steps, values, strict=False):
            written = step.value(token).value
            if abs(given.value - written) > SAME:
                raise Unsupported(
                    f"the log-probability of {token.data.decode(errors='replace')!r} is {written:.3g} when it is "
                    f"written and {given.value:.3g} when the answer is given"
                )
            noise = max(noise, abs(given.value - written))

        return noise

    def _check_grammar(self, question: Question, first: Step) -> None:
        """Check that a grammar can force the second best token."""
        others = sorted(first.shown.keys() - {first.token.key}, key=lambda key: -first.shown[key])
        if first.token.id is None or not others:
            raise Unsupported("the server shows no ids of tokens")
        forced = self.write(question, 1, grammar=_rule_of(others[:1])).steps[0]
        if forced.token.key != others[0]:
            raise Unsupported("the server ignores it")

    def _forced(self, reply: Reply, answer: ServedAnswer) -> Values:
        """Return the log-probabilities of the tokens that a grammar forced."""
        if [step.token.id for step in reply.steps[: len(answer.tokens)]] != [token.id for token in answer.tokens]:
            raise RequestRefused(f"{self.called} wrote {reply.text!r:.80} where {answer.text!r:.80} was forced")
        return [step.value(token) for step, token in zip(reply.steps, answer.tokens, strict=False)]

    def _continued(self, replies: Sequence[Reply], answer: ServedAnswer) -> Values:
        """Return the log-probabilities of the tokens that continue an answer."""
        counts = [reply.read for reply in replies]
        start = counts[0]
        for number, count in enumerate(counts):
            if start is not None and count is not None and count - start != number:
                raise RequestRefused(
                    f"{self.called} reads {count - start} tokens where the answer so far, "
                    f"{answer.before(number)!r:.80}, has {number}, so it does not continue this answer"
                )

        return [reply.steps[0].value(token) for reply, token in zip(replies, answer.tokens, strict=True)]

    def _replies(self, bodies: Sequence[JsonObject]) -> list[Reply]:
        return self.post("chat/completions", bodies, self._reply)

    def _reply(self, data: Any) -> Reply:
        """Return what an answer has."""
        choice, text = choices_of(data)[0]
        entries = (choice.get("logprobs") or {}).get("content")
        if not entries and not text:  # servers seldom show the token that ends an answer
            raise AnswerEnds(
                f"{self.called} wrote nothing, and shows no log-probabilities where an answer ends: give another "
                "prompt, or explain fewer words (max_words)"
            )
        if not entries or not all(entry.get("top_logprobs") for entry in entries):
            raise Unsupported(
                f"{self.called} answers without the log-probabilities of tokens (logprobs, top_logprobs): "
                "explain a model of a server that shows them, or draw answers (way=samples as a loading option)"
            )

        steps = tuple(map(_step, entries))
        return Reply(text, steps, counted((data.get("usage") or {}).get("prompt_tokens")))

    def _whole(self, question: Question, text: str, shown: int = 0) -> JsonObject:
        """Return a request for the log-probabilities of all that the server reads, and of ``shown`` others each."""
        return self._body(question, text, prompt_logprobs=shown, max_tokens=1)

    def _body(self, question: Question, before: str = "", **entries: Any) -> JsonObject:
        """Return a request that goes on after the start of an answer, which is left out if it is empty."""
        messages = question.messages()
        if before:
            messages.append({"role": "assistant", "content": before})
            entries |= {"continue_final_message": True, "add_generation_prompt": False}

        shown = {"logprobs": True, "top_logprobs": self.top}
        return {"model": self.name, "messages": messages, "temperature": 0, **shown, **entries}


def choices_of(data: Any) -> list[tuple[JsonObject, str]]:
    """Return the choices of an answer, of which there is at least one, with their texts."""
    choices = data.get("choices") if isinstance(data, dict) else None
    choices = choices if isinstance(choices, list) else []
    if not choices or not all(isinstance(each, dict) and isinstance(each.get("message"), dict) for each in choices):
        raise TypeError("it has no choices with a message")

    texts = [each["message"].get("content") or "" for each in choices]
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"message.content must be a text (got {type(text).__name__})")

    return list(zip(choices, texts, strict=True))


def _rule(answer: ServedAnswer) -> str:
    """Return a grammar that allows only an answer."""
    return _rule_of([token.id for token in answer.tokens])


def _rule_of(ids: Sequence[Any]) -> str:
    """Return a grammar that allows only these tokens."""
    return "root ::= " + " ".join(f"<[{number}]>" for number in ids)


def _step(entry: Any) -> Step:
    """Return a token of an answer with what is shown at its place."""
    shown: dict[Key, float] = {}
    pieces: dict[Key, bytes] = {}
    for each in (*entry["top_logprobs"], entry):
        value = each["logprob"]
        if value is not None and not isinstance(value, int | float):
            raise TypeError(f"a log-probability must be a number (got {value!r:.40})")
        if value is not None and value > _ABSENT:
            token = _token(each)
            shown.setdefault(token.key, _log_probability(value))
            pieces.setdefault(token.key, token.data)

    if not shown:
        raise ValueError(f"the token {entry.get('token')!r:.40} has no log-probability")
    return Step(_token(entry), shown, pieces)


def _log_probability(value: Any) -> float:
    """Return a log-probability, which may be above 0 by rounding only."""
    number = float(value)
    if not -math.inf < number <= _ROUNDING:  # NaN, too
        raise ValueError(
            f"a log-probability must be finite and at most 0 (got {number:.3g}): let the server show "
            "log-probabilities, and no logits"
        )
    return min(0.0, number)


def _token(entry: Any) -> Token:
    """Return the token of an entry."""
    if "id" not in entry and entry.get("bytes") is None:
        raise ValueError(f"the token {entry.get('token')!r:.40} has neither an id nor bytes")
    return Token(bytes(entry.get("bytes") or ()), entry.get("id"))


def _values_of(others: Others, steps: Sequence[Step]) -> Values:
    """Return the log-probabilities of other tokens than those of an answer."""
    return [steps[place].value(token) for place, token in others]


def _prompt_steps(data: Any) -> list[Step]:
    """Return the tokens that a server has read, but the first, with what is shown at their places."""
    entries = data.get("prompt_logprobs")
    if not entries:
        raise LookupError("it has no prompt_logprobs")

    steps = []
    for entry in entries[1:]:
        shown: dict[Key, float] = {}
        pieces: dict[Key, bytes] = {}
        for number, facts in entry.items():
            shown[int(number)] = _log_probability(facts["logprob"])
            pieces[int(number)] = (facts["decoded_token"] or "").encode()

        read = int(next(iter(entry)))  # the token that was read stands before the most probable ones
        steps.append(Step(Token(pieces[read], read), shown, pieces))

    return steps


def _steps_of(answer: ServedAnswer, data: Any) -> list[Step]:
    """Return what is shown for an answer, which is the last that a server has read."""
    last = _prompt_steps(data)[-len(answer.tokens) :]
    for token, step in zip(answer.tokens, last, strict=True):
        if step.token.data.strip() != token.data.strip():
            raise ValueError(f"it has read {step.token.data!r} where the answer has {token.data!r}")
    return last


def _spelling(text: str, read: Sequence[Step]) -> list[Step]:
    """Return what is shown for an answer, which is the last that a server has read, by its text alone."""
    letters = "".join(text.split()).encode()
    spelled = b""
    steps: list[Step] = []
    for step in reversed(read):
        spelled = b"".join(step.token.data.split()) + spelled
        steps.insert(0, step)
        if spelled == letters:
            return steps
        if not letters.endswith(spelled):
            break

    raise ValueError(f"it has read {spelled!r:.80} at the end")


def _pieces(data: Any) -> list[Token]:
    """Return the tokens of a text, as llama.cpp shows them."""
    tokens = []
    for entry in data["tokens"]:
        piece = entry["piece"]
        tokens.append(Token(piece.encode() if isinstance(piece, str) else bytes(piece), entry["id"]))
    return tokens
