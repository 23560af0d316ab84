"""BLIP-2 from Hugging Face Transformers: the contrastive part of ``Blip2ForImageTextRetrieval`` (Li et al., 2023).

An image is embedded as a vector for each of the query tokens of the Q-Former, and a caption as one vector. Their
similarity is the largest cosine, which is MaxSim with a query of one vector. Layers of the image are those of its
encoder; the Q-Former belongs to the head.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from nibt.models._heads import DualEncoder
from nibt.models._hugging_face import HuggingFaceImageTower, HuggingFaceTextTower
from nibt.models.base import Inputs
from nibt.targets._similarity import MaxSim
from nibt.types import Embedding


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

    @property
    def model(self) -> Any:
        return self.root.qformer

    @property
    def embeddings(self) -> Any:
        return self.root.embeddings

    @property
    def context(self) -> int:
        return self.root.config.qformer_config.max_position_embeddings

    def run(self, inputs: Inputs) -> Embedding:
        words = self.embeddings(input_ids=inputs.values)
        return self._projected(self.model(query_embeds=words, query_length=0, **inputs.extra).last_hidden_state)

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self._projected(stream)

    def _projected(self, states: Tensor) -> Embedding:
        """Return the unit vector of the first token, as a set of one."""
        return F.normalize(self.root.text_projection(states[:, :1]), dim=-1)


class BLIP2(DualEncoder):
    """The checkpoints of ``Blip2ForImageTextRetrieval``."""

    model_types = ("blip-2",)
    class_names = ("Blip2ForImageTextRetrieval",)
    auto_class = "Blip2ForImageTextRetrieval"
    image_tower = BLIP2ImageTower
    text_tower = BLIP2TextTower
    similarity = MaxSim()
    has_logits = False


PLUGIN = BLIP2
