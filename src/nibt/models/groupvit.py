"""GroupViT from Hugging Face Transformers (Xu et al., 2022).

Patches and group tokens go through the blocks of the first stage, which are the layers here. Then the patches are
assigned to groups, and no row stands for a place in the image any more.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nibt.models._heads import DualEncoder, EndTokenTower
from nibt.models._hugging_face import HuggingFaceImageTower
from nibt.types import Embedding, Hidden


class GroupViTImageTower(HuggingFaceImageTower):
    """The image tower of GroupViT; the group tokens are put before the patches, as other special tokens are."""

    any_size = False
    mapped = False
    offers = frozenset({"stem"})

    @property
    def stages(self) -> list[Any]:
        """The stages, each of which has fewer groups."""
        return list(self.vision.encoder.stages)

    @cached_property
    def prefix(self) -> int:  # pyright: ignore
        return self.stages[0].num_group_token

    @cached_property
    def blocks(self) -> list[nn.Module]:
        return list(self.stages[0].layers)

    def to_tokens(self, stream: Tensor) -> Hidden:
        patches = stream.shape[1] - self.prefix
        return torch.cat([stream[:, patches:], stream[:, :patches]], 1)

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        return torch.cat([tokens[:, self.prefix :], tokens[:, : self.prefix]], 1)

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        first, *others = self.stages
        states, groups = first.split_x(stream)
        if first.downsample is not None:
            states = first.downsample(states, groups)[0]
        for stage in others:
            states, groups = stage(states, groups)[:2]
        return self.root.visual_projection(self.vision.layernorm(states).mean(1))


class GroupViTTextTower(EndTokenTower):
    """The text tower of GroupViT."""

    offers = frozenset({"stem"})


class GroupViT(DualEncoder):
    """The checkpoints of ``GroupViTModel``."""

    model_types = ("groupvit",)
    class_names = ("GroupViTModel",)
    image_tower = GroupViTImageTower
    text_tower = GroupViTTextTower


PLUGIN = GroupViT
