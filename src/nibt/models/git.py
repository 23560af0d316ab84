"""GIT, which reads the features of an image and a text in one sequence, and writes (Wang et al., 2022).

Layers are those of the decoder.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nibt.models._answers import Prompted
from nibt.models._family import OnlyGenerators
from nibt.models._request import Request
from nibt.models._trace import Inputs
from nibt.models._vision_language.answers import AnswerNetwork, DecoderAnswerTower
from nibt.models._vision_language.pixels import SquareLayout
from nibt.preprocessing.captions import TOKENIZER_LOCK
from nibt.torch_modes import float32_numbers


class GITNetwork(AnswerNetwork):
    """The parts of GIT, whose last layer is normalized."""

    @property
    def layers(self) -> list[nn.Module]:
        return list(self.base.encoder.layer)

    @cached_property
    def norm(self) -> nn.Module:
        return nn.Identity()


class GITTower(DecoderAnswerTower):
    """The sequence of GIT: the class token and the patches of the image, and the words of the prompt and the answer."""

    prompts = "optional"

    def __init__(self, module: Any, request: Request) -> None:
        images = request.image_processor
        super().__init__(
            GITNetwork(module, module.git, module.git), SquareLayout(images), images, request.text_tokenizer
        )

    @cached_property
    def offset(self) -> int:  # pyright: ignore
        vision = self.root.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2 + 1

    def chat(self, prompt: str) -> str:
        return prompt

    def _prepared(self, prompted: Prompted) -> Mapping[str, Tensor]:
        with float32_numbers(), TOKENIZER_LOCK:
            pixels = self.processor(prompted.image.pil_image, return_tensors="pt")["pixel_values"]
            words = self.tokenizer(prompted.prompt, add_special_tokens=False).input_ids
        ids = torch.tensor([[self.tokenizer.cls_token_id, *words]], device="cpu")  # without the end of a text
        return {"pixel_values": pixels, "input_ids": ids}

    def places(self, inputs: Inputs) -> tuple[int, ...]:
        return tuple(range(1, self.offset))


class GIT(OnlyGenerators):
    """The checkpoints of ``GitForCausalLM``."""

    generator_classes = ("GitForCausalLM",)
    answer_tower = GITTower
    joint_processor = False
