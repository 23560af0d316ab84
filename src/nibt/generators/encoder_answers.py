"""The tower of a generator whose decoder attends to the states of an image encoder (BLIP, TrOCR).

Layers are those of the image encoder; the decoder, with the prompt and the forced answer, belongs to the head. Only the
image can be narrowed, since words do not pass through these layers.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from operator import methodcaller
from typing import ClassVar

import torch
from torch import Tensor, nn

from nibt.data.units import Grid, SequenceUnits, Units, Words
from nibt.errors import BadInput, Unsupported
from nibt.generators.answers import AnswerTokens, AnswerTower, ForcedWord, Prompted, at_rows, forced_inputs
from nibt.models._hugging_face import HuggingFaceImageTower
from nibt.models._inputs import Inputs
from nibt.models._request import LoadRequest
from nibt.models._tower import part
from nibt.models.base import ImageTower
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import TOKENIZER_LOCK
from nibt.types import Embedding, Hidden

_PREFIX = 8  # tokens before the patches at most, such as a class token and registers


class EncoderAnswers(AnswerTower):
    """The image encoder of a generator, with all that reads its states as the head."""

    sources = ("image",)
    mapped = False  # masks of decoders
    offers = frozenset({"states", "stem"})  # the head has many attentions
    context: ClassVar[int]  # the largest number of tokens
    patch: int  # its side in pixels

    @abstractmethod
    def prompt_ids(self, prompt: str) -> dict[str, list[int]]:
        """Return the ids that the decoder reads before the answer, ``ids``, and those that other parts read."""

    @abstractmethod
    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        """Return the last states of the decoder, or its logits, from the ids and the last states of the image."""

    @abstractmethod
    def encoded(self, pixels: Tensor) -> Hidden:
        """Return the last states of the image encoder."""

    @abstractmethod
    def after_blocks(self, stream: Hidden) -> Tensor:
        """Return the last states of the image encoder from those that leave its blocks."""

    def _logits(self, states: Embedding) -> Tensor:
        return states  # which are logits, since decoders differ in what follows their states

    @abstractmethod
    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        """Return the ids that the model writes for at most ``most`` words."""

    def _texts(self, prompt: str, answer: Sequence[int] = ()) -> dict[str, Tensor]:
        with TOKENIZER_LOCK:
            texts = self.prompt_ids(prompt)
        texts = {**texts, "ids": [*texts["ids"], *answer]}
        longest = max(map(len, texts.values()))
        if longest > self.context:
            raise BadInput(
                f"the prompt with the answer may have {self.context} tokens (got {longest}): shorten the prompt or the "
                "answer"
            )

        device = self.example.device
        return {name: torch.tensor([ids], dtype=torch.long, device=device) for name, ids in texts.items()}

    def write(self, prompted: Prompted, most: int) -> AnswerTokens:
        pixels = ImageTower.prepare(self, [prompted.image]).values
        texts = self._texts(prompted.prompt)
        return self.written(self.answer_ids(pixels, texts, most), most)

    def prepare(self, items: Sequence[ForcedWord]) -> Inputs:
        prompted = items[0].prompted
        answer = items[0].answer
        texts = self._texts(prompted.prompt, answer.ids)
        start = texts["ids"].shape[1] - len(answer.ids)
        inputs = ImageTower.prepare(self, [prompted.image])
        inputs = replace(inputs, extra=texts).take([0] * len(items))
        height, width = inputs.values.shape[-2:]
        count = (height // self.patch) * (width // self.patch) + _PREFIX
        words = ()
        if prompted.prompt and "prompt" in self.narrowed:
            words = hugging_face.tokens(self.tokenizer, prompted.prompt, self.context, False).words
        nothing = torch.zeros(len(items), count, dtype=torch.bool, device="cpu")
        return forced_inputs(inputs, items, start - 1, ("",) * count, (words,) * len(items), nothing)

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {name: value for name, value in inputs.extra.items() if name != "targets"}

    def head(self, stream: Hidden, extra: dict[str, Tensor]) -> Embedding:
        return at_rows(self.decoded(self.after_blocks(stream), extra), extra["rows"])

    def run(self, inputs: Inputs) -> Embedding:
        return at_rows(self.decoded(self.encoded(inputs.values), inputs.extra), inputs.extra["rows"])

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        rows, columns = (side // self.patch for side in inputs.values.shape[-2:])
        prefix = stream.shape[1] - rows * columns
        if not 0 <= prefix <= _PREFIX:
            raise Unsupported(
                f"the image encoder has {stream.shape[1]} states for {rows} x {columns} patches, so nibt cannot place "
                "them on the image"
            )

        assert inputs.words is not None
        words = inputs.words
        explained = words.explained[:, : stream.shape[1]]
        return SequenceUnits(Grid(rows, columns, prefix=prefix), Words(words.tokens, words.words, explained))

    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        nothing = self.blank_inputs(inputs.take([0]))
        key = tuple(nothing.values.shape), tuple(nothing.extra["ids"].flatten().tolist()) if layer is None else ()
        state = self._blank_state(key, lambda: nothing, layer)
        return state.expand(len(inputs), *state.shape[1:])


class EncoderAnswerTower(EncoderAnswers, HuggingFaceImageTower):
    """The image encoder of a generator of Transformers."""

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__(root, request)
        self.tokenizer = request.text_tokenizer

    embedder = part("root", methodcaller("get_input_embeddings"))
    norm = part("vision.post_layernorm")
    """The norm after the blocks."""

    def encoded(self, pixels: Tensor) -> Hidden:
        return self.vision(pixels).last_hidden_state

    def after_blocks(self, stream: Hidden) -> Tensor:
        return self.norm(stream)
