"""The image-text models BLIP and BLIP-2 from Hugging Face Transformers."""

import torch.nn.functional as F
from torch import Tensor

from nibt.models._heads import ClassTokenTower, DualEncoder, FirstTokenTower
from nibt.models._hugging_face import HuggingFaceImageTower, HuggingFaceTextTower
from nibt.models._tower import part
from nibt.models.base import Inputs
from nibt.targets.base import MaxSim
from nibt.types import Embedding


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


class BLIP(DualEncoder, name="blip"):
    """BLIP from Hugging Face Transformers: the image-text model, and those that write about images (Li et al., 2022).

    Of ``BlipForImageTextRetrieval``, this is the contrastive part. Its score is the cosine, as with
    ``use_itm_head=False``: the model has no logit scale. The matching head reads both inputs together, so it is no dual
    encoder.
    """

    auto_class = "BlipForImageTextRetrieval"
    image_tower = BLIPImageTower
    text_tower = BLIPTextTower


class BLIP2ImageTower(HuggingFaceImageTower):
    """The image encoder of BLIP-2, with the Q-Former as its head."""

    prefix = 1
    offers = frozenset({"states", "stem"})  # the head has many attentions

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
        return self.head(self.model(query_embeds=words, query_length=0, **inputs.extra).last_hidden_state, {})

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        """Return the unit vector of the first token, as a set of one."""
        return F.normalize(self.root.text_projection(stream[:, :1]), dim=-1)


class BLIP2(DualEncoder, name="blip_2"):
    """BLIP-2: the image-text model, and those that write (Li et al., 2023), as InstructBLIP.

    Of ``Blip2ForImageTextRetrieval``, this is the contrastive part. An image is embedded as a vector for each of the
    query tokens of the Q-Former, and a caption as one vector. Their similarity is the largest cosine, which is MaxSim
    with a query of one vector. Layers of the image are those of its encoder; the Q-Former belongs to the head.
    """

    auto_class = "Blip2ForImageTextRetrieval"
    image_tower = BLIP2ImageTower
    text_tower = BLIP2TextTower
    similarity = MaxSim()
    has_logits = False
