"""BLIP and BLIP-2 from Hugging Face Transformers that write about images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nibt.errors import CannotLoad
from nibt.generators.answers import AnswerTokens, Prompted
from nibt.generators.base import Writer
from nibt.generators.encoder_answers import EncoderAnswerTower
from nibt.models._request import LoadRequest
from nibt.models._tower import part
from nibt.models._vision_language.towers import with_child
from nibt.models.base import Inputs
from nibt.options import Keywords
from nibt.torch_modes import set_hook
from nibt.types import Embedding, Hidden


class BLIPCaptionTower(EncoderAnswerTower):
    """The image encoder of BLIP, whose decoder continues a prompt."""

    prompts = "optional"
    removable = ("prompt",)
    context = part("root.config.text_config.max_position_embeddings")

    def prompt_ids(self, prompt: str) -> dict[str, list[int]]:
        ids = self.tokenizer(prompt).input_ids
        return {"ids": [self.root.config.text_config.bos_token_id, *ids[1:-1]]}

    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        return self._words(texts["ids"], states)

    def _words(self, ids: Tensor, seen: Tensor) -> Tensor:
        """Return the last states of the decoder."""
        decoder = self.root.text_decoder.bert
        return decoder(ids, encoder_hidden_states=seen, is_decoder=True, use_cache=False).last_hidden_state

    def _logits(self, states: Embedding) -> Tensor:
        return self.root.text_decoder.cls(states)

    def own(self, inputs: Inputs) -> Tensor:
        return self.root(pixel_values=inputs.values, input_ids=inputs.extra["ids"]).logits

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        ids = texts["ids"]
        ended = torch.cat([ids, ids[:, :1]], 1)  # whose last token, the end of the prompt, the model removes
        return self.generate(most, pixels, ended)[ids.shape[1] :]


class BLIPQuestionTower(BLIPCaptionTower):
    """The image encoder of BLIP, whose text encoder reads a question, and whose decoder writes the answer."""

    prompts = "needed"

    def prompt_ids(self, prompt: str) -> dict[str, list[int]]:
        return {"ids": [self.root.decoder_start_token_id], "question": self.tokenizer(prompt).input_ids}

    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        question = self.root.text_encoder(texts["question"], encoder_hidden_states=states).last_hidden_state
        return self._words(texts["ids"], question)

    def own(self, inputs: Inputs) -> Tensor:
        logits: list[Tensor] = []  # which the model does not return

        def after(_: nn.Module, args: tuple, out: Tensor) -> None:
            logits.append(out)

        with set_hook(self.root.text_decoder.cls.register_forward_hook, after):
            self.root(inputs.extra["question"], inputs.values, decoder_input_ids=inputs.extra["ids"])
        return logits[0]

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        return self.generate(most, texts["question"], pixels)[1:]


class BLIPWriter(Writer, name="blip"):
    """BLIP that describes an image, or answers a question about it."""

    joint_processor = False

    @staticmethod
    def tower(module: nn.Module, request: LoadRequest) -> EncoderAnswerTower:
        return (BLIPQuestionTower if hasattr(module, "text_encoder") else BLIPCaptionTower)(module, request)


class _FixedEncoder(nn.Module):
    """An image encoder that returns given states."""

    def __init__(self, states: Hidden) -> None:
        super().__init__()
        self.states = states

    def forward(self, *_: object, **__: object) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(last_hidden_state=self.states, pooler_output=self.states[:, 0])  # pyright: ignore


class BLIP2AnswerTower(EncoderAnswerTower):
    """The image encoder of BLIP-2 or InstructBLIP, with the Q-Former and the language model as the head."""

    removable = ("prompt",)

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__(root, request)
        self.query_tokenizer = getattr(request.processor, "qformer_tokenizer", None)  # of InstructBLIP
        if self.root.config.image_token_index is None:
            raise CannotLoad("its configuration lacks image_token_index: save the model with a newer Transformers")

    @property
    def prompts(self) -> Any:  # pyright: ignore
        return "optional" if self.query_tokenizer is None else "needed"

    context = part("root.config.text_config", lambda text: getattr(text, "max_position_embeddings", 512))
    """The largest number of tokens; T5 has no limit, and was trained on 512."""

    def prompt_ids(self, prompt: str) -> dict[str, list[int]]:
        config = self.root.config
        read = [config.image_token_index] * config.num_query_tokens + self.tokenizer(prompt).input_ids
        texts = {"ids": read}
        if not config.use_decoder_only_language_model:
            texts = {"ids": [self.root.language_model.config.decoder_start_token_id], "input_ids": read}
        if self.query_tokenizer is not None:
            texts["qformer_input_ids"] = self.query_tokenizer(prompt).input_ids
        return texts

    def read(self, prompted: Prompted, answer: str) -> AnswerTokens:
        continued = prompted.prompt and self.root.config.use_decoder_only_language_model
        return super().read(prompted, f" {answer}" if continued else answer)

    def _read(self, root: nn.Module, pixels: Tensor, texts: dict[str, Tensor]) -> Tensor:
        ids = {"decoder_input_ids": texts["ids"]} if "input_ids" in texts else {"input_ids": texts["ids"]}
        return root(pixel_values=pixels, **ids, **self._others(texts)).logits

    def _others(self, texts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what other parts than the decoder read."""
        return {name: texts[name] for name in ("input_ids", "qformer_input_ids") if name in texts}

    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        root = with_child(self.root, "vision_model", _FixedEncoder(states))
        return self._read(root, states, texts)

    def own(self, inputs: Inputs) -> Tensor:
        return self._read(self.root, inputs.values, inputs.extra)

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        ids: Keywords = {"input_ids": texts["ids"], **self._others(texts)}
        start = 1
        if "input_ids" not in texts:
            start = texts["ids"].shape[1]
        return self.generate(most, pixels, **ids)[start:]


class BLIP2Writer(Writer, name="blip_2"):
    """BLIP-2 and InstructBLIP."""

    tower = BLIP2AnswerTower
