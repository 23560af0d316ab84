"""What is asked about an answer, and the answer that a generator is forced to write, with the scores of its words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.conversation import Conversation, Prompt
from nibt.data.images import ImageInput, ImageSource, read_image
from nibt.data.pair import MOST_CHARACTERS, as_list, is_visible, too_long
from nibt.data.units import Grid, Word, cells_of
from nibt.errors import BadInput, BadOption
from nibt.generators.answers import AnswerScore, AnswerTokens, AnswerTower, ForcedWord, Generator, Prompted
from nibt.generators.results.answer_word import AnswerWord, WordErrors
from nibt.generators.word_games import TextWords, played
from nibt.io import unicode_text
from nibt.methods._units import SegmentMethod
from nibt.methods.base import Method
from nibt.models._inputs import Inputs
from nibt.options import BatchSize, parsed
from nibt.preprocessing.captions import unknown_notes, words_of_text
from nibt.preprocessing.hugging_face import special_tokens
from nibt.results.attribution import Attribution
from nibt.results.explanation import shortened
from nibt.types import RUNNER_UP, SOURCES, Source

_LARGE_STATE = 2**17  # numbers
_IMAGE: tuple[Source, ...] = ("image",)


@dataclass(frozen=True)
class ForcedAnswer:
    """An answer that a generator is forced to write."""

    generator: Generator
    tower: AnswerTower
    prompted: Prompted
    answer: AnswerTokens

    def narrowing(self, sources: Sequence[Source]) -> "ForcedAnswer":
        """Return the answer with a blank input that lacks only these sources."""
        return replace(self, tower=self.tower.narrowing(sources))

    def side(self, numbers: Sequence[int | None], alternatives: Tensor | None, memory: float | None) -> Side:
        """Trace the sequence, with a row for each of these words; None is the whole answer."""
        inputs, score = self._scored(numbers, alternatives)
        trace = self.tower.trace(inputs)
        state = trace.cut(self.tower.depth).hidden[0]
        if memory is None and state.numel() > _LARGE_STATE:
            memory = 1.0  # one state at a time, beside which the weights of such a model are large
        return Side(self.generator, trace, score, memory)

    def with_prompt(self, prompt: str) -> "ForcedAnswer":
        """Return the answer to another prompt."""
        return replace(self, prompted=replace(self.prompted, prompt=prompt))

    def values(self, numbers: Sequence[int], alternatives: Tensor | None) -> list[float]:
        """Compute the target of these words."""
        inputs, score = self._scored(numbers, alternatives)
        with torch.no_grad():
            return score(self.tower.encode(inputs)).tolist()

    def _scored(self, numbers: Sequence[int | None], alternatives: Tensor | None) -> tuple[Inputs, AnswerScore]:
        """Prepare the sequence with a row for each of these words, and the target of each row."""
        inputs = self.tower.prepare([ForcedWord(self.prompted, self.answer, number) for number in numbers])
        others = None if alternatives is None else alternatives[list(numbers)].to(inputs.values.device)
        return inputs, AnswerScore(self.tower, inputs.extra["targets"], others)

    def prompt_game(self, numbers: Sequence[int], alternatives: Tensor | None) -> TextWords:
        """Return the target of these words as a function of which words of the prompt are kept."""

        def score(prompts: Sequence[str]) -> list[list[float]]:
            return [self.with_prompt(prompt).values(numbers, alternatives) for prompt in prompts]

        return TextWords(self.prompted.prompt, score)

    def logs(self, image: ImageInput | None) -> Float[Tensor, "token vocabulary"]:
        """Compute the log-probabilities at each token of the answer with an image; None is a blank image."""
        prompted = self.prompted if image is None else replace(self.prompted, image=image)
        inputs = self.tower.prepare([ForcedWord(prompted, self.answer)])
        states = self.tower.encode(self.tower.blank_inputs(inputs) if image is None else inputs)
        with torch.no_grad():
            return self.tower.logits(states)[0].float().log_softmax(-1).cpu()

    def log_probabilities(self, image: ImageInput | None) -> list[float]:
        """Compute the log-probability of each word with an image."""
        logs = self.logs(image)
        of_tokens = logs[torch.arange(len(logs)), list(self.answer.ids)]
        return [float(of_tokens[list(word.tokens)].sum()) for word in self.answer.words]

    def probabilities(self, images: Sequence[ImageInput]) -> "list[WordProbabilities]":
        """Compute the log-probabilities of each word: with the image, with a blank one, and with each of others."""
        image = self.log_probabilities(self.prompted.image)
        blank = self.log_probabilities(None)
        elsewhere = [self.log_probabilities(another) for another in images]
        by_word = list(zip(*elsewhere, strict=True)) or [()] * len(image)
        return list(map(WordProbabilities, image, blank, by_word))

    def alternatives(self, against: str) -> Tensor:
        """Return the token that each word's first token is compared with."""
        firsts = [word.tokens[0] for word in self.answer.words]
        if against == RUNNER_UP:
            logs = self.logs(self.prompted.image)[firsts]
            written = torch.tensor([[self.answer.ids[token]] for token in firsts])
            return logs.scatter(-1, written, -torch.inf).argmax(-1)

        alone = self.tower.read(self.prompted, against)
        if len(alone.words) != 1:
            raise BadInput(f"against must be one word (got {against!r}), or {RUNNER_UP}")
        if unknown_notes(alone.words, alone.ids, self.tower.tokenizer.unk_token_id) or self._special(against):
            raise BadInput(f"against must be a word that the model knows (got {against!r})")

        ids = []
        for number in range(len(firsts)):
            before = " ".join(word.text for word in self.answer.words[:number])
            tokens = self.tower.read(self.prompted, f"{before} {against}".strip())
            after = [word for word in tokens.words if word.tokens[0] >= firsts[number]] or list(tokens.words[-1:])
            ids.append(tokens.ids[after[0].tokens[0]])

        return torch.tensor(ids)

    def compared_with_themselves(self, alternatives: Tensor) -> list[str]:
        """Return the words whose first token is what it is compared with."""
        firsts = (self.answer.ids[word.tokens[0]] for word in self.answer.words)
        both = zip(self.answer.words, alternatives.tolist(), firsts, strict=True)
        return [repr(word.text) for word, alternative, first in both if alternative == first]

    @cached_property
    def inputs(self) -> Any:
        """The prepared sequence, whose words are those of the prompt."""
        return self.tower.narrowing(SOURCES).prepare([ForcedWord(self.prompted, self.answer, 0)])

    @property
    def processed_size(self) -> tuple[int, int]:
        """The width and height in pixels to which the image was resized for the model."""
        height, width = self.tower.extent(self.inputs)
        return width, height

    @property
    def prompt_words(self) -> tuple[str, ...]:
        """The words of the prompt."""
        return tuple(word.text for word in self.inputs.words.words[0])

    def words_of_prompt(self, sources: Sequence[Source]) -> tuple[str, ...]:
        """Return the words of the prompt: those of tokens or, if words are left out of the text, those of the text."""
        if "prompt" in sources and "prompt" not in self.tower.sources:
            return words_of_text(self.prompted.prompt)
        return self.prompt_words

    @property
    def notes(self) -> tuple[str, ...]:
        """The warnings about how the image, the prompt and the answer are read."""
        words = self.inputs.words
        unknown = unknown_notes(words.words[0], words.tokens[0], self.tower.tokenizer.unk_token)
        of_prompt = [*unknown, *self._special(" ".join(self.prompted.texts) or self.prompted.prompt)]
        of_answer = self._special(self.answer.text)
        return (
            *self.inputs.notes[0],
            *(f"the prompt: {note}" for note in of_prompt),
            *(f"the answer: {note}" for note in of_answer),
            *([cut_note(len(self.answer.words))] if self.answer.is_cut else []),
        )

    def _special(self, text: str) -> list[str]:
        """Return a warning that names the special tokens that a text spells."""
        tokenizer = self.tower.tokenizer
        special = [token for token in tokenizer.all_special_tokens if token != tokenizer.unk_token]
        spelled = [repr(token) for token in special if token in text]
        return [f"the model reads {', '.join(spelled)} as a special token, not as a word"] if spelled else []


def cut_note(count: int) -> str:
    """Return the note on an answer of which only the first words are explained."""
    words = "this word" if count == 1 else f"these {count} words"
    return f"the model writes more than {words}: for more of its answer, set max_words (--max-words) higher"


@dataclass(frozen=True)
class AnswerRequest:
    """Images, a prompt and the answer to it, or the largest number of words that the model writes."""

    images: tuple[ImageInput, ...]
    prompt: str | Conversation
    answer: str | None
    most: int

    @classmethod
    def of(
        cls, image: ImageSource | Sequence[ImageSource], prompt: Prompt, answer: str | None, max_words: int | None
    ) -> "AnswerRequest":
        """Check what needs no model."""
        most = parsed("max_words", 30 if max_words is None else max_words, BatchSize)
        if answer is not None and max_words is not None:
            raise BadOption("max_words is for answers that the model writes: leave it out with a given answer")

        images = tuple(map(read_image, as_list(image)))
        if not images:
            raise BadInput("there is no image (got an empty list): give at least one")

        if isinstance(prompt, str):
            read_words("prompt", prompt, empty=True)
        read = prompt if isinstance(prompt, str) else Conversation.of(prompt, len(images))
        return cls(images, read, None if answer is None else read_words("answer", answer), most)

    def is_video(self, tower: AnswerTower) -> bool:
        """Return whether the images are frames of a video: the prompt has the place of one, or the model's token."""
        if isinstance(self.prompt, Conversation):
            return self.prompt.has_video
        token = getattr(getattr(tower, "processor", None), "video_token", None)
        return token is not None and token in self.prompt

    def forced(self, generator: Generator) -> ForcedAnswer:
        """Return the answer, which the model writes if it is not given, with what comes before it."""
        tower, image = generator.answers.composed(self.images, self.is_video(generator.answers))
        if isinstance(self.prompt, Conversation):
            for text in self.prompt.texts:
                _check_pieces(text, tower, None)
            text, starts = tower.conversation(self.prompt.turns)
            prompted = Prompted(image, text, self.prompt.texts, starts)
        else:
            prompted = Prompted(image, _prompt(self.prompt, tower))

        tokens = tower.write(prompted, self.most) if self.answer is None else tower.read(prompted, self.answer)
        if not tokens.words:
            if self.answer is None:
                raise WritesNoWord(
                    "the model wrote no word: give the answer that is to be explained, or another prompt"
                )
            raise BadInput(f"the answer {shortened([self.answer])} has no word for this model: give another one")
        return ForcedAnswer(generator, tower, prompted, tokens)


def _prompt(prompt: str, tower: AnswerTower) -> str:
    """Check that there is a prompt if the model needs one, and none if it takes none."""
    text = read_words("prompt", prompt, empty=tower.prompts != "needed")
    if tower.prompts == "none" and text:
        raise BadInput(f"the prompt must be empty for this model, which describes images without one (got {text!r})")
    token = getattr(getattr(tower, "processor", None), "image_token", None)
    _check_pieces(text, tower, token)
    return prompt if token and token in prompt else text  # a whole prompt may end with a line break


def _check_pieces(text: str, tower: AnswerTower, allowed: str | None) -> None:
    """Check that a text has no other token by which the model reads images."""
    for piece in special_tokens(tower.tokenizer, len(tower.tokenizer)) - {allowed}:
        if piece in text and re.search("image|img|<row_", piece):
            raise BadInput(f"the prompt must not contain {piece!r}, a token by which the model reads images")


def read_words(name: str, text: str, empty: bool = False) -> str:
    """Return a text without blanks around it."""
    if len(unicode_text(name, text)) > MOST_CHARACTERS:
        raise BadInput(too_long(name, text))
    invisible = bool(text.strip()) and not is_visible(text)
    if invisible or (not text.strip() and not empty):
        raise BadInput(f"the {name} must not be empty (got {text!r})")
    return text.strip()


class WritesNoWord(BadInput):
    """The model wrote an answer without a word."""


class WordProbabilities(NamedTuple):
    """The log-probabilities of a word: with the image, with a blank one, and with each of other images."""

    image: float
    blank: float
    others: tuple[float, ...]


class SourceScores(NamedTuple):
    """The scores of the units of one source, that of other tokens, and the value without the source, for one word.

    The ``errors`` of the units are None if the scores are no estimates, and the ``reliance`` is None if the method adds
    no units.
    """

    units: Float[Tensor, " unit"]
    special: float
    without: float
    errors: Float[Tensor, " unit"] | None
    reliance: float | None


def source_scores(side: Side, attribution: Attribution) -> list[SourceScores]:
    """Return the scores of one source for each word of a batch."""
    path = attribution.path
    assert isinstance(side.tower, AnswerTower)
    with torch.no_grad():
        without = side.score(side.blank()).tolist()
    results = []
    for row, scores in enumerate(attribution.scores.float().cpu()):
        kept = _of_source(side, attribution, row, scores)
        special = 0.0 if path is None else float(path.sum[row] + path.special_tokens[row] - kept.sum())
        errors = None if attribution.error is None else attribution.error[row].float().cpu()
        of_units = None if errors is None else _of_source(side, attribution, row, errors)
        reliance = None if attribution.reliance is None else float(attribution.reliance[row])
        results.append(SourceScores(kept, special, without[row], of_units, reliance))

    return results


def removal_scores(game: TextWords, method: SegmentMethod) -> list[SourceScores]:
    """Return the scores of the words of a prompt for each word of a batch, which are left out of the prompt in turn."""
    of_prompt = played(game, method)
    return [
        SourceScores(
            scores, 0.0, without, None if of_prompt.errors is None else of_prompt.errors[:, number].float(), None
        )
        for number, (scores, without) in enumerate(zip(of_prompt.scores.float().T, of_prompt.without, strict=True))
    ]


def _of_source(
    side: Side, attribution: Attribution, row: int, scores: Float[Tensor, " column"]
) -> Float[Tensor, " unit"]:
    """Return the scores of the cells of the image, or the sums of those of each word."""
    assert isinstance(side.tower, AnswerTower)
    assert side.inputs.words is not None
    cells = cells_of(attribution.units).count
    if "image" in side.tower.narrowed:
        return scores[:cells]

    words = [scores[cells:][list(word.tokens)].sum() for word in side.inputs.words.words[row]]
    return torch.stack(words) if words else scores[:0]


def explained_words(
    forced: ForcedAnswer,
    probabilities: Sequence[WordProbabilities],
    sources: Sequence[Source],
    method: Method,
    alternatives: Tensor | None,
    memory: float | None,
    numbers: Sequence[int],
) -> list[AnswerWord]:
    """Explain words of an answer by each source, and by all of them together."""
    narrowed: list[Source] = [source for source in sources if source in forced.tower.sources]
    blanked = narrowed or _IMAGE
    side = forced.narrowing(blanked).side(numbers, alternatives, memory)
    values = side.value().tolist()
    by_source: dict[Source, list[SourceScores]] = {}
    cells: list[Grid] = []
    for source in narrowed:
        of_one = side if len(narrowed) == 1 else forced.narrowing([source]).side(numbers, alternatives, memory)
        of_source = method if source == "image" else replace(method, views=1)
        attribution = of_source(of_one)
        by_source[source] = source_scores(of_one, attribution)
        cells.append(cells_of(attribution.units))

    grid = cells[0] if cells else cells_of(side.units)
    if narrowed != [*sources]:
        assert isinstance(method, SegmentMethod)
        by_source["prompt"] = removal_scores(forced.prompt_game(numbers, alternatives), method)
        side = forced.with_prompt("").narrowing(blanked).side(numbers, alternatives, memory)

    with torch.no_grad():
        at_blank = (side.score(side.blank()) if narrowed else side.value()).tolist()
    prompt_words = len(forced.words_of_prompt(sources))
    explained = _ExplainedBatch(by_source, values, at_blank, grid, cells_of(side.units), prompt_words)
    return [
        explained.word(row, number, forced.answer.words[number], probabilities[number])
        for row, number in enumerate(numbers)
    ]


@dataclass(frozen=True)
class _ExplainedBatch:
    """The scores of a batch of words by each source, and the values that they divide.

    Attributes:
        by_source: The scores of each word by source.
        values: The value of each word with all sources.
        at_blank: The value of each word without any source.
        grid: The cells of the scores of the image.
        own_grid: The cells of the model, which may belong to several images.
        prompt_words: The number of words of the prompt.
    """

    by_source: dict[Source, list[SourceScores]]
    values: list[float]
    at_blank: list[float]
    grid: Grid
    own_grid: Grid
    prompt_words: int

    def word(self, row: int, number: int, word: Word, known: WordProbabilities) -> AnswerWord:
        """Return the word with a number in the answer, which is at a row of the batch."""
        scores: dict[Source, SourceScores] = {source: of_words[row] for source, of_words in self.by_source.items()}
        explained: dict[Source, Tensor] = {source: of_source.units for source, of_source in scores.items()}
        units = self._of_sources(explained, number)
        errors: dict[Source, Tensor] = {
            source: of_source.errors for source, of_source in scores.items() if of_source.errors is not None
        }
        reliance = {source: of_source.reliance for source, of_source in scores.items()}
        return AnswerWord(
            text=word.text,
            tokens=word.tokens,
            log_probability=known.image,
            with_blank_image=known.blank,
            with_other_images=sum(known.others) / len(known.others) if known.others else None,
            each_other_image=known.others,
            value=self.values[row],
            without={source: of_source.without for source, of_source in scores.items()},
            at_blank=self.at_blank[row],
            grid=self._map(units["image"]),
            prompt=units["prompt"],
            earlier=units["earlier"],
            special=sum(of_source.special for of_source in scores.values()),
            error=self._errors(errors, number) if len(errors) == len(scores) else None,
            reliance={source: share for source, share in reliance.items() if share is not None},
        )

    def _of_sources(self, known: dict[Source, Tensor], number: int) -> dict[Source, Tensor]:
        """Return the numbers of the units of each source; they are 0 for a source that is not explained."""
        counts: dict[Source, int] = {"image": self.grid.count, "prompt": self.prompt_words, "earlier": number}
        return {
            source: known.get(source, torch.zeros(count, dtype=torch.float32, device="cpu"))
            for source, count in counts.items()
        }

    def _errors(self, known: dict[Source, Tensor], number: int) -> WordErrors | None:
        """Return the errors of estimated scores of a word."""
        errors = self._of_sources(known, number)
        return WordErrors.known(self._map(errors["image"]), errors["prompt"], errors["earlier"])

    def _map(self, of_cells: Float[Tensor, " cell"]) -> Float[Tensor, "row column"]:
        """Return the map of the scores of cells, without those that are no part of an image."""
        return self.own_grid.of_parts(self.grid.unfold(of_cells))
