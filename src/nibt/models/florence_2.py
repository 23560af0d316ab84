"""Florence-2, whose encoder reads an image and a prompt, and whose decoder writes (Xiao et al., CVPR 2024).

Layers are those of the encoder of texts. The words of the answer before a word do not pass through them, so they cannot
be narrowed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nibt.data.units import Grid, SequenceUnits, Units, Words
from nibt.models._answers import AnswerTokens, AnswerTower, ForcedWord, Prompted, word_rows
from nibt.models._family import OnlyGenerators
from nibt.models._request import Request
from nibt.models._trace import Inputs
from nibt.models._vision_language.answers import AnswerNetwork, DecoderAnswerTower
from nibt.models._vision_language.tiles import layout_of
from nibt.preprocessing.captions import TOKENIZER_LOCK, in_words
from nibt.torch_modes import float32_numbers
from nibt.types import Embedding, Hidden


class Florence2Network(AnswerNetwork):
    """The parts of Florence-2."""

    @cached_property
    def norm(self) -> nn.Module:
        return nn.Identity()


class Florence2Tower(DecoderAnswerTower):
    """The sequence of the encoder: the mean of the image, its cells, and the words of the prompt."""

    sources = ("image", "prompt")
    mapped = False  # masks of decoders
    offers = frozenset({"stem"})  # pyright: ignore  # the head has many attentions

    def __init__(self, module: Any, request: Request) -> None:
        network = Florence2Network(module, module.model, module.model.language_model.encoder)
        super().__init__(network, layout_of(request.processor), request.processor)

    @property
    def start(self) -> list[int]:
        """The ids that the decoder reads before the answer."""
        settings, text = self.root.generation_config, self.root.config.text_config
        forced = settings.forced_bos_token_id
        return [text.decoder_start_token_id, *([] if forced is None else [forced])]

    def chat(self, prompt: str) -> str:
        """Return the prompt, in which a task such as ``<CAPTION>`` is written out."""
        return self.processor._construct_prompts(prompt)[0]

    def _prepared(self, prompted: Prompted) -> Mapping[str, Tensor]:
        with float32_numbers(), TOKENIZER_LOCK:
            image = prompted.image.pil_image
            return dict(self.processor(text=[prompted.prompt], images=[image], return_tensors="pt"))

    def write(self, prompted: Prompted, most: int) -> AnswerTokens:
        values = self._prepared(prompted)
        inputs = self._inputs_of(values, prompted, len(values["input_ids"][0]))
        text, start = self.root.config.text_config, torch.tensor([self.start], device=inputs.values.device)
        names = ("eos_token_id", "pad_token_id", "decoder_start_token_id")
        tokens = {name: getattr(text, name) for name in names}
        ids = self.generate(most, **self.arguments(inputs), decoder_input_ids=start, **tokens)
        return self.written(ids[start.shape[1] :], most)

    def read(self, prompted: Prompted, answer: str) -> AnswerTokens:
        return AnswerTower.read(self, prompted, answer)

    def prepare(self, items: Sequence[ForcedWord]) -> Inputs:
        prompted, answer = items[0].prompted, items[0].answer
        values, start = self._prepared(prompted), self.start
        ids = values["input_ids"][0].tolist()
        self.check_length(max(len(ids), len(start) + len(answer.ids)))
        inputs = self._inputs_of(values, prompted, len(ids))
        read = torch.tensor([[*start, *answer.ids]], device=inputs.values.device)
        inputs = replace(inputs, extra={**inputs.extra, "read": read}).take([0] * len(items))
        words = self._prompt_words(self.chat(prompted.prompt), ids) if "prompt" in self.narrowed else ()
        texts = tuple(self.tokenizer.convert_ids_to_tokens(ids))
        explained = torch.tensor([in_words(words, len(ids))] * len(items), device="cpu")
        return replace(
            inputs,
            extra={**inputs.extra, **word_rows(items, len(start) - 1, read.device)},
            words=Words((texts,) * len(items), (words,) * len(items), explained),
        )

    def places(self, inputs: Inputs) -> tuple[int, ...]:
        return super().places(inputs)[1:]

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        units = super().units(inputs, stream)
        assert isinstance(units, SequenceUnits)
        places = units.grid.tokens
        mean = Grid(1, 1, places=(places[0] - 1,))
        return replace(units, grid=replace(units.grid, prefix=0, places=places, overview=mean))

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {name: inputs.extra[name] for name in ("read", "rows")}

    def head(self, stream: Hidden, extra: dict[str, Tensor]) -> Embedding:
        decoder = self.network.base.language_model.decoder
        states = decoder(input_ids=extra["read"], encoder_hidden_states=stream, use_cache=False).last_hidden_state
        return self.network.embed(states, extra["rows"])

    def _whole(self, model: Any, inputs: Inputs) -> Any:
        return model(**self.arguments(inputs), decoder_input_ids=inputs.extra["read"], use_cache=False)

    def run(self, inputs: Inputs) -> Embedding:
        return self.network.embed(self._whole(self.network.base, inputs).last_hidden_state, inputs.extra["rows"])

    def own_logits(self, inputs: Inputs) -> Tensor:
        with torch.no_grad(), self.computing():
            return self.network.embed(self._whole(self.root, inputs).logits, inputs.extra["rows"])


class Florence2(OnlyGenerators):
    """The checkpoints of ``Florence2ForConditionalGeneration``."""

    generator_classes = ("Florence2ForConditionalGeneration",)
    answer_tower = Florence2Tower
