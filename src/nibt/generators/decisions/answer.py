"""What a model decides about an answer: how probable its words are with an image, or whether a word is ahead."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.hidden_cells import Decisions, HiddenCells, MaskValues, check_model, no_limit
from nibt.core.side import Side
from nibt.data.conversation import Conversation
from nibt.data.images import ImageInput
from nibt.data.units import Word
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.generators.answers import AnswerMargin, AnswerScore, Generator
from nibt.generators.forced import AnswerRequest
from nibt.generators.loading import load_generator
from nibt.generators.results.answer import AnswerExplanation
from nibt.report.image.parts import present
from nibt.results.explanation import shortened

_MOST_WORDS = 30  # that a model writes when an answer is explained, by default


@dataclass(frozen=True)
class WordSide:
    """The side of an image whose value is that of a word of an answer, or of the whole answer.

    Attributes:
        side: The side.
        words: The words of the answer, as the model reads them.
        check_limit: Checks that so many changed images, at least, are within the limit of a server.
    """

    side: Side
    words: Sequence[Word]
    check_limit: Callable[[int], None] = no_limit


@dataclass(frozen=True, kw_only=True)
class HiddenAnswerCells(HiddenCells):
    """An image with some of its cells hidden, and the word of an answer, or the answer, that is decided."""

    def candidates(self, values: MaskValues) -> Float[Tensor, "mask candidate"]:
        # the value of a word that is compared is already the difference from the other one
        return torch.stack([values, *(torch.zeros_like(values) for _ in self.names)], 1)


class AnswerDecisions(Decisions, name="answer"):
    """The cells of the image of an answer, or of several images side by side."""

    of = AnswerExplanation

    @classmethod
    @contextmanager
    def opened(
        cls, model: Any, result: AnswerExplanation, word: int | str | None, hide: Any, writes: bool = False
    ) -> Iterator[HiddenAnswerCells]:
        number = _number(result, word)
        images = _images(result)
        generator = load_generator(model)
        check_model(result, generator)
        if writes:
            _check_writes(result, generator)

        options = result.target["options"]
        messages = options.get("messages")
        prompt = result.prompt if messages is None else Conversation.of(messages, len(images))
        request = AnswerRequest(images, prompt, None if result.written else result.answer, _most(result))
        traced = generator.word_side or partial(_by_weights, generator)
        if writes:
            traced = partial(_written, generator)
        with traced(request, number, len(result.words), options.get("against")) as word_side:
            _check_words(result, word_side.words)
            grids = result.table if number is None else result.table[[number]]
            yield HiddenAnswerCells(
                side=word_side.side,
                scores=grids.sum(0),
                hide=hide,
                names=[] if number is None else [text.strip() for text in result.alternatives][number:][:1],
                amount="written" if writes else "difference" if result.alternatives else "log_probability",
                word=number,
                text=" ".join(each.text for each in result.words[: None if number is None else number + 1]),
                check_limit=word_side.check_limit,
            )


def _number(result: AnswerExplanation, word: int | str | None) -> int | None:
    """Return the number of the word that is decided; None for the whole answer."""
    if word is not None:
        return result.position(word)
    if not result.alternatives:
        return None
    if len(result.words) > 1:
        named = shortened([repr(each.text) for each in result.words])
        raise BadInput(
            f"word is missing: each word of the answer is compared with {result.target['options']['against']!r}, so "
            f"choose one, by its position or its text (of {named})"
        )
    return 0


def _check_writes(result: AnswerExplanation, generator: Generator) -> None:
    """Check that it can be told from logits what the model writes."""
    if generator.word_side is not None:
        raise Unsupported("a region that corrects needs the logits of all tokens: load the model itself")
    if generator.request.generation != "greedy":
        raise BadOption("a region that corrects is for the most probable answer: load the model without generation")
    if result.alternatives:
        raise BadOption("a region that corrects is for one answer, not a difference: explain it without against")


def _images(result: AnswerExplanation) -> tuple[ImageInput, ...]:
    """Return the images of an answer, of which a part can decide."""
    if result.target["name"] == "difference":
        raise BadInput("decisive_region takes answers about an image (got the difference of two images)")
    if result.frames:
        raise BadInput("decisive_region takes answers about images (got the frames of a video): explain a frame alone")
    return tuple(present(image.input, image.source) for image in result.images or [result])


def _most(result: AnswerExplanation) -> int:
    """Return how many words the model may write, so that the explained ones are the first of them."""
    return max(_MOST_WORDS, len(result.words))


def _check_words(result: AnswerExplanation, words: Sequence[Word]) -> None:
    """Check that the model reads or writes the words that were explained."""
    expected = [(word.text, word.tokens) for word in result.words]
    found = [(word.text, word.tokens) for word in words]
    if found != expected:
        texts = shortened([" ".join(text for text, _ in found)])
        raise BadInput(
            f"the model now {'writes' if result.written else 'reads'} another answer than {result.answer!r:.100} (got "
            f"{texts}): explain the answer again"
        )


@contextmanager
def _written(
    generator: Generator, request: AnswerRequest, number: int | None, count: int, against: None
) -> Iterator[WordSide]:
    """Trace an answer up to a word, whose value is above 0 if the model writes it."""
    forced = request.forced(generator)
    words = forced.answer.first(count).words
    last = count if number is None else number + 1
    forced = replace(forced, answer=forced.answer.first(last)).narrowing(["image"])
    side = forced.side([None], None, None)
    yield WordSide(replace(side, score=AnswerMargin(forced.tower, side.inputs.extra["targets"])), words)


@contextmanager
def _by_weights(
    generator: Generator, request: AnswerRequest, number: int | None, count: int, against: str | None
) -> Iterator[WordSide]:
    """Trace a word of an answer, or the first ``count`` words, by the weights of the model."""
    forced = request.forced(generator)
    forced = replace(forced, answer=forced.answer.first(count)).narrowing(["image"])
    alternatives = None if against is None else forced.alternatives(against)
    side = forced.side([number], alternatives, None)
    if number is None:
        assert isinstance(side.score, AnswerScore)
        of_words = {token for word in forced.answer.words for token in word.tokens}
        targets = side.score.targets.clone()
        targets[:, [token for token in range(targets.shape[1]) if token not in of_words]] = -1  # such as blanks
        side = replace(side, score=replace(side.score, targets=targets))

    yield WordSide(side, forced.answer.words)
