"""BLIP-2 from Hugging Face Transformers: the image-text model, and those that write (Li et al., 2023), as InstructBLIP.

Of ``Blip2ForImageTextRetrieval``, this is the contrastive part. An image is embedded as a vector for each of the query
tokens of the Q-Former, and a caption as one vector. Their similarity is the largest cosine, which is MaxSim with a
query of one vector. Layers of the image are those of its encoder; the Q-Former belongs to the head.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nibt.errors import CannotLoad
from nibt.models._answers import AnswerTokens, Prompted
from nibt.models._encoder_answers import EncoderAnswerTower
from nibt.models._heads import DualEncoder
from nibt.models._hugging_face import (
    HuggingFaceImageTower,
    HuggingFaceTextTower,
)
from nibt.models._tower import part
from nibt.models._vision_language.network import apart
from nibt.models.base import Inputs
from nibt.targets.base import MaxSim
from nibt.types import Embedding, Hidden


class BLIP2ImageTower(HuggingFaceImageTower):
    """The image encoder of BLIP-2, with the Q-Former as its head."""

    prefix = 1
    offers = frozenset({"stem"})  # the head has many attentions

    def run(self, inputs: Inputs) -> Embedding:
        states = self.vision(inputs.values, **self.size_options(inputs)).last_hidden_state
        return self._queried(states)

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self._queried(self.vision.post_layernorm(stream))

    def _queried(self, states: Tensor) -> Embedding:
        """Return the unit vector of each query token."""
        queries = self.root.query_tokens.expand(len(states), -1, -1)
        answers = self.root.qformer(query_embeds=queries, encoder_hidden_states=states).last_hidden_state
        return F.normalize(self.root.vision_projection(answers), dim=-1)


class BLIP2TextTower(HuggingFaceTextTower):
    """The Q-Former as a text encoder."""

    model = part("root.qformer")
    embeddings = part("root.embeddings")
    context = part("root.config.qformer_config.max_position_embeddings")

    def run(self, inputs: Inputs) -> Embedding:
        words = self.embeddings(input_ids=inputs.values)
        return self._projected(self.model(query_embeds=words, query_length=0, **inputs.extra).last_hidden_state)

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self._projected(stream)

    def _projected(self, states: Tensor) -> Embedding:
        """Return the unit vector of the first token, as a set of one."""
        return F.normalize(self.root.text_projection(states[:, :1]), dim=-1)


class _FixedEncoder(nn.Module):
    """An image encoder that returns given states."""

    def __init__(self, states: Hidden) -> None:
        super().__init__()
        self.states = states

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(last_hidden_state=self.states, pooler_output=self.states[:, 0])  # pyright: ignore


class BLIP2AnswerTower(EncoderAnswerTower):
    """The image encoder of BLIP-2 or InstructBLIP, with the Q-Former and the language model as the head."""

    def __init__(self, root: Any, request: Any) -> None:
        super().__init__(root, request)
        self.query_tokenizer = getattr(request.processor, "qformer_tokenizer", None)  # of InstructBLIP
        if root.config.image_token_index is None:
            raise CannotLoad("its configuration lacks image_token_index: save the model with a newer Transformers")

    @property
    def prompts(self) -> Any:  # pyright: ignore
        return "optional" if self.query_tokenizer is None else "needed"

    @cached_property
    def context(self) -> int:  # pyright: ignore
        """The largest number of tokens; T5 has no limit, and was trained on 512."""
        return getattr(self.root.config.text_config, "max_position_embeddings", 512)

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

    def _read(self, root: Any, pixels: Tensor, texts: dict[str, Tensor]) -> Tensor:
        ids = {"decoder_input_ids": texts["ids"]} if "input_ids" in texts else {"input_ids": texts["ids"]}
        return root(pixel_values=pixels, **ids, **self._others(texts)).logits

    def _others(self, texts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what other parts than the decoder read."""
        return {name: texts[name] for name in ("input_ids", "qformer_input_ids") if name in texts}

    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        root = apart(self.root)
        root._modules = {**self.root._modules, "vision_model": _FixedEncoder(states)}
        return self._read(root, states, texts)

    def own(self, pixels: Tensor, texts: dict[str, Tensor]) -> Tensor:
        return self._read(self.root, pixels, texts)

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        ids, start = {"input_ids": texts["ids"], **self._others(texts)}, 1
        if "input_ids" not in texts:
            start = texts["ids"].shape[1]
        return self.generate(most, pixels, **ids)[start:]


class BLIP2(DualEncoder):
    """The checkpoints of ``Blip2ForImageTextRetrieval``, and of the models that write."""

    model_types = ("blip-2",)
    class_names = ("Blip2ForImageTextRetrieval",)
    auto_class = "Blip2ForImageTextRetrieval"
    image_tower = BLIP2ImageTower
    text_tower = BLIP2TextTower
    similarity = MaxSim()
    has_logits = False
    generator_classes = ("Blip2ForConditionalGeneration", "InstructBlipForConditionalGeneration")
    answer_tower = BLIP2AnswerTower
