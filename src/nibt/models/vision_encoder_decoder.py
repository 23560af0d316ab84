"""Pairs of an image encoder and a text decoder that write: ``VisionEncoderDecoderModel``, such as TrOCR and ViT-GPT-2.

They describe or read an image without a prompt. Layers are those of the image encoder.
"""

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor, nn

from nibt.models._encoder_answers import EncoderAnswerTower
from nibt.models._family import OnlyGenerators
from nibt.models._tower import part
from nibt.types import Hidden


class VisionEncoderDecoderTower(EncoderAnswerTower):
    """The image encoder, whose states the decoder attends to."""

    prompts = "none"
    vision = part("root.encoder")
    vision_config = part("root.config.encoder")

    @cached_property
    def norm(self) -> nn.Module:
        return getattr(self.vision, "layernorm", nn.Identity())

    context = part("root.config.decoder.max_position_embeddings")

    def prompt_ids(self, prompt: str) -> dict[str, list[int]]:
        settings = self.root.generation_config, self.root.config, self.root.config.decoder
        starts = (
            getattr(values, name, None) for name in ("decoder_start_token_id", "bos_token_id") for values in settings
        )
        return {"ids": [next(start for start in starts if start is not None)]}

    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        seen = self.root.enc_to_dec_proj(states) if hasattr(self.root, "enc_to_dec_proj") else states
        return self.root.decoder(input_ids=texts["ids"], encoder_hidden_states=seen, use_cache=False).logits

    def own(self, pixels: Tensor, texts: dict[str, Tensor]) -> Tensor:
        return self.root(pixel_values=pixels, decoder_input_ids=texts["ids"], use_cache=False).logits

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        return self.generate(most, pixels, decoder_input_ids=texts["ids"])[1:]


class VisionEncoderDecoder(OnlyGenerators):
    """The checkpoints of ``VisionEncoderDecoderModel``."""

    generator_classes = ("VisionEncoderDecoderModel",)
    answer_tower = VisionEncoderDecoderTower
    unread = r"^encoder\.pooler\."
    joint_processor = False
