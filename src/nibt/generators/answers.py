"""The contract of generators: models that write text about an image, and the words of their answers.

One sequence holds the image, the prompt and the answer. The answer is forced: the model reads it, and predicts each of
its tokens from everything before. What is explained is the log-probability of a word, the sum over its tokens.
"""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nibt.data.conversation import Turn
from nibt.data.images import ImageInput
from nibt.data.units import SequenceUnits, Word, Words
from nibt.errors import BadInput, Unsupported, first_line
from nibt.generators.writing import changed_settings, writer
from nibt.models._inputs import Inputs
from nibt.models._loaded import LoadedModel
from nibt.models._text_tower import TextTower
from nibt.models._tower import Tower, Trace
from nibt.models._vision_language.pixels import Layout
from nibt.models.base import ImageTower
from nibt.preprocessing.captions import TOKENIZER_LOCK, decoded_offsets, words_by_offsets
from nibt.records import JsonObject
from nibt.registry import find
from nibt.types import SOURCES, Embedding, Hidden, PerExample, Source

TOKENS_PER_WORD = 4
"""The tokens that are written at most for each word of a limit."""
EXAMPLE_PROMPT = "what is in the image"
"""The prompt of checks that name none."""
_CHUNK = 8192  # rows of a vocabulary that are read together
AnyTower = TypeVar("AnyTower", bound="AnswerTower")


@dataclass(frozen=True)
class Prompted:
    """An image with the prompt that a generator is given.

    Attributes:
        image: The image.
        prompt: The prompt, or the text of a conversation in the chat template of the model.
        texts: The texts of the turns of a conversation.
        starts: Where each of these texts starts in the prompt; empty if the chat template changes them.
    """

    image: ImageInput
    prompt: str
    texts: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens of an answer, and its words with the positions of their tokens in it.

    ``is_cut`` says that these are the first words of a longer answer.
    """

    text: str
    ids: tuple[int, ...]
    texts: tuple[str, ...]
    words: tuple[Word, ...]
    is_cut: bool = False

    def first(self, count: int) -> "AnswerTokens":
        """Return the answer up to a number of words."""
        if count >= len(self.words):
            return self
        words = self.words[:count]
        end = max(words[-1].tokens) + 1 if words else 0
        return AnswerTokens("".join(self.texts[:end]).strip(), self.ids[:end], self.texts[:end], words, is_cut=True)


@dataclass(frozen=True)
class ForcedWord:
    """A word of a forced answer by its number, or the whole answer."""

    prompted: Prompted
    answer: AnswerTokens
    word: int | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """The positions in the answer of the tokens whose log-probabilities are summed."""
        return tuple(range(len(self.answer.ids))) if self.word is None else self.answer.words[self.word].tokens


class AnswerTower(ImageTower, TextTower):
    """Base class of the towers of generators, which read images, prompts and answers in one sequence.

    The states that enter the head are those that predict the tokens of a word. Items of a batch are words of the same
    answer.
    """

    modality = "text"
    shiftable = False
    distributes = False
    kept_blanks = 2  # those of whole sequences are large
    blend_width = 2.0
    sources: ClassVar[tuple[Source, ...]] = SOURCES
    """What can be narrowed."""
    removable: ClassVar[tuple[Source, ...]] = ()
    """What else methods that change inputs explain: words that are left out, since no layer narrows them."""
    prompts: ClassVar[Literal["needed", "optional", "none"]] = "needed"
    """Whether the model reads a prompt."""
    generation: Literal["greedy", "model"] = "greedy"
    """Whether the model writes the most probable tokens of its logits, or as its own settings say."""
    frames: int = 0
    """The number of frames of a video that each map is of; 0 for images."""
    narrowed: frozenset[Source] = frozenset(SOURCES)
    """What is explained: what a blank input lacks."""

    @property
    def called(self) -> str:
        return "generator"

    @cached_property
    def pad(self) -> tuple[int, str]:
        """The id and the text of the padding token, or of the end token of a tokenizer without padding."""
        ends = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0
        token = next(token for token in ends if token is not None)
        return token, self.tokenizer.convert_ids_to_tokens(token)

    def tokens(self, caption: str) -> Any:
        raise NotImplementedError("a generator reads prompts with images")

    def group(self, item: object) -> Hashable:
        return id(item)

    def empty_inputs(self) -> Inputs:
        """Return the inputs of a gray image with a prompt and an answer."""
        image = ImageInput(Image.new("RGB", (64, 64), (128, 128, 128)), "gray")
        return self.example_inputs(image, self.example_prompt)

    @property
    def example_prompt(self) -> str:
        """The prompt of checks that name none; empty for a model that takes no prompt."""
        return "" if self.prompts == "none" else EXAMPLE_PROMPT

    def example_inputs(self, image: ImageInput, prompt: str) -> Inputs:
        """Return the inputs of an image with a prompt and an answer."""
        prompted = Prompted(image, prompt)
        return self.prepare([ForcedWord(prompted, self.read(prompted, "a cat and a dog"))])

    def spelled(self, ids: Sequence[int]) -> AnswerTokens:
        """Return the words that the tokens of an answer spell."""
        with TOKENIZER_LOCK:
            decoded = [
                self.tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False) for end in range(len(ids) + 1)
            ]
            texts = tuple(self.tokenizer.convert_ids_to_tokens(list(ids)))

        text = decoded[-1]
        ends, offsets = decoded_offsets(decoded)
        pieces = tuple(text[first:last] for first, last in pairwise(ends))
        words = words_by_offsets(text, texts, [True] * len(ids), offsets)
        return AnswerTokens(text.strip(), tuple(ids), pieces, words)

    def written(self, ids: Sequence[int], most: int) -> AnswerTokens:
        """Return at most ``most`` words of what a model wrote, without special tokens at its end."""
        ids = list(ids)
        special = set(self.tokenizer.all_special_ids)
        while ids and ids[-1] in special:
            ids.pop()
        return self.spelled(ids).first(most)

    def generate(self, most: int, *inputs: Tensor, inner: nn.Module | None = None, **options: Any) -> list[int]:
        """Return the ids that the model's own ``generate`` gives for one sequence of at most ``most`` words.

        ``inner`` is a part whose own attributes the model does not get; see ``writer``.
        """
        with_settings = self.generation == "model"
        if with_settings and "stop_strings" in changed_settings(self.root):
            options["tokenizer"] = self.tokenizer
        limit = TOKENS_PER_WORD * most
        if with_settings:
            limit = min(limit, getattr(self.root.generation_config, "max_new_tokens", None) or limit)
        options |= {"do_sample": False, "max_new_tokens": limit, "return_dict_in_generate": False}
        try:
            with torch.no_grad(), self.computing():
                return writer(self.root, with_settings, inner).generate(*inputs, **options)[0].tolist()
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if not with_settings or isinstance(error, torch.OutOfMemoryError):
                raise
            raise BadInput(
                f"the model's own generate fails with the settings of its folder ({first_line(error)}): load it "
                "without generation=model"
            ) from error

    def narrowing(self: AnyTower, sources: Sequence[Source]) -> AnyTower:
        """Return the tower with a blank input that lacks only these sources."""
        tower = copy(self)
        tower.narrowed = frozenset(sources)
        return tower

    def composed(self, images: Sequence[ImageInput], video: bool = False) -> tuple["AnswerTower", ImageInput]:
        """Return the tower for images, or for the frames of a video, and what it sees of them as one image."""
        if video:
            raise Unsupported("this model takes no video: explain each frame alone")
        if len(images) == 1:
            return self, images[0]
        raise Unsupported(f"this model takes one image (got {len(images)}): explain each alone")

    def conversation(self, turns: Sequence[Turn]) -> tuple[str, tuple[int, ...]]:
        """Return the text of a conversation, with the places of its images, and where the texts of its turns start."""
        raise Unsupported("this model reads no conversation: give the prompt as one text")

    def empty_embedding(self, table: nn.Module, device: torch.device) -> Tensor:
        """Return the embedding that takes the place of a removed word: the mean over the vocabulary, at a usual length.

        Decoders normalize each state by its length, and the embedding of their padding token is often zero. A path
        from zero would then change nothing but at its very start.
        """
        key = "empty", table
        if key not in self.kept:
            count = int(table.weight.shape[0])  # pyright: ignore
            chunks = torch.arange(count, device=device).split(_CHUNK)
            with torch.no_grad():
                rows = [table.forward(ids) for ids in chunks]
                lengths = torch.cat([chunk.norm(dim=-1) for chunk in rows])
                mean = torch.stack([chunk.sum(0) for chunk in rows]).sum(0) / count
                self.kept[key] = mean * (lengths.median() / mean.norm().clamp_min(1e-30))
        return self.kept[key]

    @abstractmethod
    def prepare(self, items: Sequence[ForcedWord]) -> Inputs:
        """Prepare words of one answer: items of ``ForcedWord``."""

    @abstractmethod
    def write(self, prompted: Prompted, most: int) -> AnswerTokens:
        """Write an answer of at most ``most`` words, always with the most probable token."""

    def read(self, prompted: Prompted, answer: str) -> AnswerTokens:
        """Return the tokens of an answer after a prompt."""
        with TOKENIZER_LOCK:
            return self.spelled(self.tokenizer(answer, add_special_tokens=False).input_ids)

    def logits(self, states: Embedding) -> Float[Tensor, "*batch vocabulary"]:
        """Compute the logits of the next token from states that the tower returns."""
        with self.computing():
            return self._logits(states)

    @abstractmethod
    def _logits(self, states: Embedding) -> Float[Tensor, "*batch vocabulary"]:
        """Compute the logits, while the tower computes in float32."""

    def last_states(self, stream: Hidden) -> Hidden:
        """Return the states of all rows from which logits are computed, if the tower offers ``answer``."""
        raise NotImplementedError

    def own_logits(self, inputs: Inputs) -> Float[Tensor, "batch token vocabulary"]:
        """Run the whole model, and return its own logits at the states that the tower returns."""
        with torch.no_grad(), self.computing():
            return at_rows(self.own(inputs), inputs.extra["rows"])

    @abstractmethod
    def own(self, inputs: Inputs) -> Tensor:
        """Return the logits of the whole model at all rows."""


def units_of_states(layout: Layout, inputs: Inputs, count: int) -> SequenceUnits:
    """Return the units of the states of an image encoder: so many of the image; the words have no state."""
    assert inputs.words is not None
    nothing = torch.zeros(len(inputs), count, dtype=torch.bool, device="cpu")
    grid = layout.grid(inputs, tuple(range(count)))
    return SequenceUnits(grid, Words((("",) * count,) * len(inputs), inputs.words.words, nothing))


def trace_of_last_states(
    tower: Tower, inputs: Inputs, watch: Callable[[Callable[[Hidden], None]], RemovableHandle]
) -> Trace:
    """Trace a tower whose only layer is that of the last states of its image encoder, which ``watch`` shows."""
    states: list[Hidden] = []

    def see(stream: Hidden) -> None:
        states.append(stream.detach())

    with tower.computing(), torch.no_grad(), watch(see):
        embedding = tower.after(tower.run(inputs))
    return Trace(tower, inputs, embedding, (), (states[0],))


def forced_inputs(
    inputs: Inputs,
    items: Sequence[ForcedWord],
    before: int,
    texts: tuple[str, ...],
    words: Sequence[tuple[Word, ...]],
    explained: Bool[Tensor, "batch token"],
) -> Inputs:
    """Return inputs with the texts of their rows, and with the words of each item that are explained.

    Their ``rows`` predict the tokens of words, after the row ``before``, and their ``targets`` are the ids; -1 is
    padding.
    """
    rows = torch.zeros(len(items), max(len(item.tokens) for item in items), dtype=torch.long, device="cpu")
    targets = torch.full_like(rows, -1)
    for number, item in enumerate(items):
        rows[number, : len(item.tokens)] = torch.tensor(item.tokens, device="cpu") + before
        targets[number, : len(item.tokens)] = torch.tensor([item.answer.ids[token] for token in item.tokens])

    extra = {"rows": rows.to(inputs.values.device), "targets": targets.to(inputs.values.device)}
    of_items = Words((texts,) * len(items), tuple(words), explained)
    return replace(inputs, extra={**inputs.extra, **extra}, words=of_items)


def at_rows(states: Hidden, rows: Int[Tensor, "batch row"]) -> Embedding:
    """Return the states at the rows of each item."""
    return states.gather(1, rows[..., None].expand(-1, -1, states.shape[-1]))


@dataclass(frozen=True, eq=False, repr=False)
class Generator(LoadedModel):
    """A model that writes text about an image, such as LLaVA, Qwen-VL or BLIP.

    Attributes:
        id: The name or path of the model.
        family: The name of its family.
        module: The PyTorch module.
        answers: Its tower, which reads an image, a prompt and an answer.
        explainer: What explains answers in another way than by the weights; None explains them by the weights.
        is_compared: Whether the log-probabilities of words are compared with those for sample images.
    """

    explainer: ClassVar[Any] = None
    is_compared: ClassVar[bool] = True
    word_side: ClassVar[Any] = None
    """What traces a word of an answer in another way than by the weights; None traces it by the weights."""

    answers: AnswerTower

    def __post_init__(self) -> None:
        self.answers.generation = self.request.generation

    def fingerprint(self) -> JsonObject | None:
        """Return what the model shows for a fixed request, if its weights are not known; None if they are hashed."""
        return None

    @property
    def towers(self) -> tuple[Tower]:
        return (self.answers,)

    def _towers_anew(self, family: Any) -> tuple[AnswerTower]:
        return (find("writers", self.family).tower(self.module, self.request),)

    @property
    def item_ndim(self) -> int:
        return 2


@dataclass(frozen=True)
class AnswerScore:
    """The log-probability of words, or the logit of a word's first token compared with that of another token."""

    tower: AnswerTower
    targets: Int[Tensor, "batch token"]  # -1 is padding
    others: Int[Tensor, " batch"] | None = None  # the tokens that are compared with; None explains log-probabilities

    def __call__(self, states: Float[Tensor, "*batch token width"]) -> PerExample:
        """Compute the score of each word from the states that predict its tokens."""
        if self.others is not None:
            logits = self.tower.logits(states[..., 0, :])
            written, alternative = (
                ids.expand(logits.shape[:-1])[..., None] for ids in (self.targets[:, 0], self.others)
            )
            return (logits.gather(-1, written) - logits.gather(-1, alternative))[..., 0]

        logs = self.tower.logits(states).log_softmax(-1)
        ids = self.targets.clamp_min(0).expand(logs.shape[:-1])
        return logs.gather(-1, ids[..., None])[..., 0].masked_fill(self.targets < 0, 0.0).sum(-1)


@dataclass(frozen=True)
class AnswerProbability:
    """The probability of words: the mean over the probabilities of their tokens."""

    tower: AnswerTower
    targets: Int[Tensor, "batch token"]  # -1 is padding

    def __call__(self, states: Float[Tensor, "*batch token width"]) -> PerExample:
        """Compute the probability of each word from the states that predict its tokens."""
        shares = self.tower.logits(states).float().softmax(-1)
        ids = self.targets.clamp_min(0).expand(shares.shape[:-1])
        is_token = self.targets >= 0
        of_tokens = shares.gather(-1, ids[..., None])[..., 0].masked_fill(~is_token, 0.0)
        return of_tokens.sum(-1) / is_token.sum(-1).clamp_min(1)


@dataclass(frozen=True)
class AnswerMargin:
    """By how much the logits of tokens are ahead of those of all others: above 0 if the model would write them all."""

    tower: AnswerTower
    targets: Int[Tensor, "batch token"]  # -1 is padding

    def __call__(self, states: Float[Tensor, "*batch token width"]) -> PerExample:
        """Compute the smallest margin over the tokens of each word."""
        logits = self.tower.logits(states).float()
        ids = self.targets.clamp_min(0).expand(logits.shape[:-1])[..., None]
        others = logits.scatter(-1, ids, -torch.inf).amax(-1)
        margins = logits.gather(-1, ids)[..., 0] - others
        return margins.masked_fill(self.targets < 0, torch.inf).amin(-1)
