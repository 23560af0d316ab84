"""Explanations of answers: what each word took from the image, the prompt and the words before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor
from typing_extensions import TypedDict

from nibt.data.images import ImageInput, ImagePart, side_by_side
from nibt.data.units import Grid, Word, Words
from nibt.errors import BadInput, UnknownName, check_names
from nibt.generators.results.answer_word import AnswerWord
from nibt.records import JsonObject
from nibt.results.attribution import image_fields
from nibt.results.base import OfImage, ResultOfImage
from nibt.results.decisive import DecisiveRegion
from nibt.results.explanation import method_text, shortened
from nibt.results.pixels import over_image
from nibt.results.records import SCHEMA, MethodRecord, Probability, Size, TargetRecord, few_pixels
from nibt.types import SOURCES

_CHANGES = frozenset({*SOURCES, "frame", "joint", "difference", "gap"})
"""The columns of an answer that have a sign; those of log-probabilities are negative."""
_ROUNDING = 1e-3
ANSWER_TARGETS = {
    "log_probability": "log-probability",
    "logit_difference": "difference of logits",
    "difference": "difference of log-probabilities",
}
"""The targets of answers by name, in words."""
_ADDS_UP = 0.5  # of the change of the target: a larger gap means scores of another unit


def is_change(heading: str) -> bool:
    """Return whether a column of an answer has a sign: ``image 2`` is a part of ``image``."""
    return heading.split()[0] in _CHANGES


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerImage(OfImage):
    """One of several images of an answer, with the attributes of ``OfImage``.

    Attributes:
        shape: The rows and columns of its map.
    """

    shape: Annotated[tuple[int, int], AfterValidator(few_pixels)]

    @classmethod
    def parts_of(cls, picture: ImageInput) -> "tuple[AnswerImage, ...]":
        """Return the images that one shows side by side; none for a single image."""
        return tuple(cls(**image_fields(image), region=region, shape=shape) for image, region, shape in picture.parts)


class ServerRecord(TypedDict):
    """What a server was asked for an explanation, if the model is behind one."""

    # the documents of the schema show what the entries are
    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}  # pyright: ignore  # noqa: RUF012

    way: str
    """How it gave the log-probabilities of the answer: ``grammar``, ``prompt_logprobs`` or ``prefill``.

    ``samples`` and ``sample`` are estimates from answers that were drawn, all by one request or each by one.
    """
    requests: Annotated[int, Field(ge=0)]
    """The number of requests."""
    tokens: Annotated[int, Field(ge=0)] | None
    """The number of tokens that were read and written, as the server counts them; null if it does not."""
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The largest difference between log-probabilities that should be equal, in nats."""
    bounds: Probability
    """The share of log-probabilities that were not shown, and are set to the lowest one that was."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AnswerExplanation(ResultOfImage):
    """An explanation of an answer: a table of its words, with the scores of patches, prompt words and earlier words.

    As all results of one image, it also has ``source``, ``image_hash``, ``size`` and ``region`` of the image, the image
    itself as ``input``, and ``model``, ``versions``, ``warnings`` and ``codes``.

    Attributes:
        prompt: The prompt.
        answer: The answer.
        written: Whether the model wrote the answer; if not, it was given.
        prompt_words: The words of the prompt.
        words: The words of the answer.
        target: The target: ``log_probability``, ``logit_difference`` from a named alternative, or ``difference`` of the
            log-probabilities with two images.
        method: The method with its resolved options.
        images: The images, if there are several; their maps are side by side in the grid, each from its first row on.
            Empty for one image.
        frames: If ``images`` are frames of a video, the number of frames that each map is of, which the model merges;
            else 0.
        processed_size: The width and height in pixels to which the image, or its ``region``, was resized for the model;
            None for several images, and for a model behind a server.
        server: What a server was asked, if the model is behind one; else None.
        decisive: A small part of the map of a word, or of the whole answer, that keeps the decision of the model, or
            whose removal changes it, if ``nibt.decisive_region`` found one.
    """

    kind: ClassVar[str] = "answer"
    schema: ClassVar[int] = SCHEMA

    prompt: str
    answer: str
    written: bool
    prompt_words: tuple[str, ...]
    words: tuple[AnswerWord, ...]
    target: TargetRecord
    method: MethodRecord
    images: tuple[AnswerImage, ...] = ()
    frames: Annotated[int, Field(ge=0)] = 0
    processed_size: Size | None = None
    server: ServerRecord | None = None
    decisive: DecisiveRegion | None = None

    @model_validator(mode="after")
    def _with_images(self) -> "AnswerExplanation":
        """Add the image that shows several, if all of plain data are still at their sources and unchanged."""
        images = [image.input for image in self.images if image.input is not None]
        if not images or len(images) < len(self.images):
            return self
        parts = [ImagePart(image, each.region, each.shape) for image, each in zip(images, self.images, strict=True)]
        return replace(self, input=side_by_side(parts))

    @model_validator(mode="after")
    def _of_a_target(self) -> "AnswerExplanation":
        """Check that plain data names a target of answers."""
        if self.target["name"] not in ANSWER_TARGETS:
            known = ", ".join(ANSWER_TARGETS)
            raise ValueError(f"target.name must be one of {known} (got {self.target['name']!r:.60})")
        return self

    def __post_init__(self) -> None:
        if not self.words:
            raise BadInput("words must have at least one word of the answer (got none)")

        shape = self.words[0].grid.shape
        shapes = [image.shape for image in self.images] or [tuple(shape)]
        expected = max(rows for rows, _ in shapes), sum(columns for _, columns in shapes)
        if tuple(shape) != expected:
            raise BadInput(
                f"the maps of {len(shapes)} images must have {expected} cells side by side (got {tuple(shape)})"
            )

        if self.decisive is not None:
            self._check_decisive(self.decisive)

        for number, word in enumerate(self.words):
            lengths = word.grid.shape, len(word.prompt), len(word.earlier)
            if lengths != (shape, len(self.prompt_words), number):
                raise BadInput(
                    f"word {number} must have scores of {tuple(shape)} patches, {len(self.prompt_words)} words of the "
                    f"prompt and {number} earlier words (got {tuple(lengths[0])}, {lengths[1]} and {lengths[2]})"
                )
            self._check(number, word)

    def _check_decisive(self, decisive: DecisiveRegion) -> None:
        """Check that the decisive region is of the map of a word, or of the answer."""
        if decisive.cells.shape != self.words[0].grid.shape:
            raise BadInput(f"decisive must have the cells of the maps of words (got {tuple(decisive.cells.shape)})")
        if decisive.word is not None and decisive.word >= len(self.words):
            raise BadInput(f"decisive.word must be below {len(self.words)}, the number of words (got {decisive.word})")

    def _check(self, number: int, word: AnswerWord) -> None:
        """Check that a word agrees with the answer, and that its numbers can be added."""
        before = [token for earlier in self.words[:number] for token in earlier.tokens]
        if not word.tokens or min(word.tokens) <= max(before, default=-1):
            raise BadInput(f"the tokens of word {number} must come after those of the words before (got {word.tokens})")
        if not word.text or word.text not in self.answer:
            raise BadInput(f"word {number} must be in the answer {shortened([self.answer])} (got {word.text!r})")

        others = word.with_other_images or 0.0
        if max(word.log_probability, word.with_blank_image, others, *word.each_other_image) > _ROUNDING:
            raise BadInput(f"the log-probabilities of word {number} must be at most 0 (got {word.log_probability:g})")
        if set(word.without) != set(self.words[0].without) or not set(word.without) <= set(SOURCES):
            raise BadInput(
                f"without of word {number} must have the same sources as that of word 0, among {', '.join(SOURCES)} "
                f"(got {', '.join(word.without) or 'none'})"
            )
        if not np.isfinite([*word.shares.values(), word.image_gain]).all():
            raise BadInput(f"the scores of word {number} are too large to be added")

    @property
    def image_tables(self) -> tuple[Float[Tensor, "word row column"], ...]:
        """The maps of each image, in its own rows and columns: a map for each word."""
        shapes = [image.shape for image in self.images] or [self.table.shape[1:]]
        tables = self.table.split([columns for _, columns in shapes], -1)
        return tuple(table[:, :rows] for table, (rows, _) in zip(tables, shapes, strict=True))

    @property
    def image_names(self) -> tuple[str, ...]:
        """The headings of the images: ``image 1`` or, of a video whose frames the model merges, ``frame 1-2``."""
        if not self.frames:
            return tuple(f"image {number}" for number in range(1, 1 + len(self.images)))
        firsts = range(1, 1 + self.frames * len(self.images), self.frames)
        return tuple(f"frame {first}" + (f"-{first + self.frames - 1}" if self.frames > 1 else "") for first in firsts)

    @property
    def image_sums(self) -> Float[Tensor, "word image"]:
        """The sum of the scores of each image for each word: which image the word comes from."""
        return torch.stack([table.sum((1, 2)) for table in self.image_tables], 1)

    @property
    def adds_up(self) -> bool:
        """Whether the scores are in nats of the target and add up to its changes, at least roughly.

        If they do not add up, as with methods without signs, compare only their order.
        """
        changes = [abs(change) for word in self.words for change in word.changes.values()]
        return self.method["signed"] and sum(abs(word.gap) for word in self.words) <= _ADDS_UP * sum(changes)

    @property
    def columns(self) -> dict[str, list[float]]:
        """What pages and terminals show of each word, by heading: log-probabilities, and sums of scores that add up.

        ``baseline`` is the value without any source (``at_blank``). It, ``shares`` and ``gap`` add up to the value.
        With the image as the only source, ``baseline`` is the column ``blank``; ``joint`` needs two sources.
        """
        columns = self._target_columns
        if self.adds_up:
            columns |= self._source_columns
            columns["gap"] = [word.gap for word in self.words]

        return columns

    @property
    def _target_columns(self) -> dict[str, list[float]]:
        """The values of the target, by heading."""
        words = self.words
        if self.target["name"] != "log_probability":
            return {"difference": [word.value for word in words]}

        columns = {
            "log-prob.": [word.log_probability for word in words],
            "blank": [word.with_blank_image for word in words],
        }
        if words[0].with_other_images is not None:
            columns["others"] = [cast(float, word.with_other_images) for word in words]
        return columns

    @property
    def _source_columns(self) -> dict[str, list[float]]:
        """The sums of scores of each source, by heading; a source with several images has a column for each."""
        words = self.words
        sources = [name for name in SOURCES if name in words[0].without]
        columns: dict[str, list[float]] = {}
        # without other sources, the value at the baseline is that with a blank image, which has a column
        if self.target["name"] != "log_probability" or sources != ["image"]:
            columns["baseline"] = [word.at_blank for word in words]
        for name in sources:
            if name == "image" and self.images:
                columns |= dict(zip(self.image_names, self.image_sums.T.tolist(), strict=True))
            else:
                columns[name] = [word.shares[name] for word in words]

        if len(sources) > 1:
            columns["joint"] = [word.shares["joint"] for word in words]
        return columns

    @property
    def equation(self) -> str:
        """How the columns of a word add up; empty if they do not."""
        value, *columns = self.columns
        start = "baseline" if "baseline" in columns else "blank"
        terms = [start, *filter(is_change, columns)]
        about = "; baseline: with a blank image and neutral words" if start == "baseline" else ""
        return f"{' + '.join(terms)} = {value}{about}" if "gap" in columns else ""

    @property
    def alternatives(self) -> Sequence[str]:
        """The token that the first token of each word is compared with; empty without ``against``."""
        return cast(Sequence[str], self.target["options"].get("tokens", ()))

    @property
    def table(self) -> Float[Tensor, "word row column"]:
        """The map of each word of the answer."""
        return torch.stack([word.grid for word in self.words])

    @property
    def units(self) -> Words:
        """The words of the answer, with the positions of their tokens in it."""
        words = tuple(Word(word.text, word.tokens) for word in self.words)
        count = 1 + max(token for word in words for token in word.tokens)
        texts = {token: word.text for word in words for token in word.tokens}
        explained = torch.tensor([token in texts for token in range(count)], device="cpu")
        return Words((tuple(texts.get(token, "") for token in range(count)),), (words,), explained)

    @property
    def caption(self) -> str:
        """The answer, as the text whose words have maps."""
        return self.answer

    @property
    def grid(self) -> Grid:
        """The grid of the patches."""
        return Grid(*self.words[0].grid.shape)

    @property
    def decisive_about(self) -> str:
        """What the decisive region does, in words; empty without one."""
        if self.decisive is None:
            return ""
        number = self.decisive.word
        subject = "the answer" if number is None else f"\u201c{self.words[number].text}\u201d"
        return f"{subject}: {self.decisive.about}"

    def request(self) -> JsonObject:
        decisive = {} if self.decisive is None else {"decisive": [self.decisive.region, self.decisive.word]}
        return {**super().request(), **decisive}

    def word(self, name: str | int) -> AnswerWord:
        """Return a word of the answer by its position from 0, or by its text, if that occurs once.

        Raises:
            UnknownName: There is no such word.
            BadInput: The text occurs several times.
        """
        return self.words[self.position(name)]

    def position(self, name: str | int) -> int:
        """Return the position of a word of the answer, which is given as in ``word``.

        Raises:
            UnknownName: There is no such word.
            BadInput: The text occurs several times.
        """
        texts = [word.text for word in self.words]
        if isinstance(name, bool):  # which Python counts among the whole numbers
            raise UnknownName("words", name, texts)
        if isinstance(name, int):
            if not 0 <= name < len(texts):
                raise BadInput(f"word must be between 0 and {len(texts) - 1} (got {name})")
            return name

        check_names("words", [name], texts)
        if texts.count(name) > 1:
            places = ", ".join(str(place) for place, text in enumerate(texts) if text == name)
            raise BadInput(f"{name!r} occurs {texts.count(name)} times in the answer: give its position ({places})")
        return texts.index(name)

    def heatmap(self, *words: str | int) -> np.ndarray:
        """Return the sum of the maps of words, in the pixels of the image.

        Args:
            *words: Positions or texts; none means the whole answer, whose log-probability is the sum over its words.

        Returns:
            float32, (height, width), resized bilinearly as in the pictures; NaN outside ``region``.
        """
        selected = [self.word(name) for name in words] or self.words
        return over_image(torch.stack([word.grid for word in selected]).sum(0), self.region, self.size)

    def _lines(self) -> Iterator[str]:
        yield f"Answer {self.answer!r} to {self.prompt!r} about {self.source}"
        yield f"  {method_text(self.method)} explains {self.target['name']}; model {self.model.get('id')}"
        if self.adds_up:
            shares = [f"{word.text} {word.shares['image']:+.2f}" for word in self.words]
            yield f"  from the image  {shortened(shares)}"
        if self.decisive is not None:
            yield f"  {self.decisive_about}"
