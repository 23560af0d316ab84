"""BLIP from Hugging Face Transformers: the image-text model, and those that write about images (Li et al., 2022).

Of ``BlipForImageTextRetrieval``, this is the contrastive part. Its score is the cosine, as with
``use_itm_head=False``: the model has no logit scale. The matching head reads both inputs together, so it is no dual
encoder.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nibt.models._encoder_answers import EncoderAnswerTower
from nibt.models._heads import ClassTokenTower, DualEncoder, FirstTokenTower
from nibt.models._hooks import set_hook
from nibt.models._request import Request
from nibt.models._tower import part
from nibt.models.base import Inputs
from nibt.types import Embedding, Hidden


class BLIPImageTower(ClassTokenTower):
    """The image tower of BLIP."""

    projection = part("root.vision_proj")

    def run(self, inputs: Inputs) -> Embedding:
        states = self.vision(inputs.values, **self.size_options(inputs)).last_hidden_state
        return self.projection(states[:, 0])


class BLIPTextTower(FirstTokenTower):
    """The text tower of BLIP."""

    model = part("root.text_encoder")
    projection = part("root.text_proj")

    def run(self, inputs: Inputs) -> Embedding:
        states = self.model(inputs.values, **inputs.extra).last_hidden_state
        return self.projection(states[:, 0])


class BLIPCaptionTower(EncoderAnswerTower):
    """The image encoder of BLIP, whose decoder continues a prompt."""

    prompts = "optional"
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

    def own(self, pixels: Tensor, texts: dict[str, Tensor]) -> Tensor:
        return self.root(pixel_values=pixels, input_ids=texts["ids"]).logits

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

    def own(self, pixels: Tensor, texts: dict[str, Tensor]) -> Tensor:
        logits: list[Tensor] = []  # which the model does not return

        def after(_: nn.Module, args: tuple, out: Tensor) -> None:
            logits.append(out)

        with set_hook(self.root.text_decoder.cls.register_forward_hook, after):
            self.root(texts["question"], pixels, decoder_input_ids=texts["ids"])
        return logits[0]

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        return self.generate(most, texts["question"], pixels)[1:]


class BLIP(DualEncoder):
    """The checkpoints of ``BlipForImageTextRetrieval``, and of the models that write captions and answers."""

    model_types = ("blip",)
    class_names = ("BlipForImageTextRetrieval",)
    auto_class = "BlipForImageTextRetrieval"
    image_tower = BLIPImageTower
    text_tower = BLIPTextTower
    generator_classes = ("BlipForConditionalGeneration", "BlipForQuestionAnswering")
    joint_processor = False

    @staticmethod
    def answer_tower(module: Any, request: Request) -> EncoderAnswerTower:
        return (BLIPQuestionTower if hasattr(module, "text_encoder") else BLIPCaptionTower)(module, request)
