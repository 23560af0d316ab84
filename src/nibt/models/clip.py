"""Families of Hugging Face Transformers whose towers are CLIP's, or nearly: each names its classes and its heads."""

from typing import Any

import torch
from torch import Tensor, nn

from nibt.models._heads import ClassTokenTower, DualEncoder, EndTokenTower, FirstTokenTower
from nibt.models._hugging_face import HuggingFaceImageTower, encoder_blocks
from nibt.models._request import LoadRequest
from nibt.models._tower import part
from nibt.types import Embedding, Hidden


class CLIPImageTower(ClassTokenTower):
    """The image tower of CLIP."""


class CLIPTextTower(EndTokenTower):
    """The text tower of CLIP."""


class CLIP(DualEncoder, name="clip"):
    """CLIP, with or without PEFT adapters (Radford et al., 2021)."""

    auto_class = "CLIPModel"
    image_tower = CLIPImageTower
    text_tower = CLIPTextTower


class CLIPSeg(DualEncoder, name="clipseg"):
    """The dual encoder of CLIPSeg, without its decoder (Lüddecke and Ecker, 2022)."""

    within = "clip"
    unread = r"^decoder\."
    image_tower = ClassTokenTower
    text_tower = EndTokenTower


class MetaCLIP2TextTower(EndTokenTower):
    """The text tower of MetaCLIP 2, whose end token has the id of its configuration, even if that is 2."""

    end = part("model.eos_token_id")


class MetaCLIP2(DualEncoder, name="metaclip_2"):
    """MetaCLIP 2 (Chuang et al., 2025)."""

    image_tower = ClassTokenTower
    text_tower = MetaCLIP2TextTower


class ChineseCLIP(DualEncoder, name="chinese_clip"):
    """Chinese CLIP (Yang et al., 2022)."""

    image_tower = ClassTokenTower
    text_tower = FirstTokenTower


class AltCLIPTextTower(FirstTokenTower):
    """The text tower of AltCLIP, with a norm and a linear map before the projection."""

    blocks = part("model.roberta", encoder_blocks)
    embeddings = part("model.roberta.embeddings")
    norm = part("model", lambda model: nn.Sequential(model.pre_LN, model.transformation))


class AltCLIP(DualEncoder, name="altclip"):
    """AltCLIP: CLIP's image tower with XLM-R (Chen et al., 2022)."""

    image_tower = ClassTokenTower
    text_tower = AltCLIPTextTower


class OWLImageTower(ClassTokenTower):
    """The image tower of OWL-ViT and OWLv2."""

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        self.square = bool(getattr(request.image_processor, "do_pad", False))
        self.any_size = not self.square  # the processor of OWLv2 cannot leave the size of an image as it is
        super().__init__(root, request)


class OWLTextTower(EndTokenTower):
    """The text tower of OWL-ViT and OWLv2, whose end token has the highest id of the caption."""

    end: Any = None


class OWL(DualEncoder, name="owlvit"):
    """The dual encoders of OWL-ViT and OWLv2 (Minderer et al., 2022 and 2023).

    They are explained without the heads that detect objects. The processor of OWLv2 pads images to a square.
    """

    unread = r"^(box_head|class_head|objectness_head|layer_norm)\."
    image_tower = OWLImageTower
    text_tower = OWLTextTower

    @classmethod
    def dual_encoder(cls, module: nn.Module) -> Any:
        return getattr(module, "owlvit", getattr(module, "owlv2", module))


class GroupViTImageTower(HuggingFaceImageTower):
    """The image tower of GroupViT; the group tokens are put before the patches, as other special tokens are."""

    any_size = False
    mapped = False
    offers = frozenset({"states", "stem"})

    stages = part("vision.encoder.stages")
    """The stages, each of which has fewer groups."""
    prefix = part("vision.encoder.stages.0.num_group_token")
    blocks = part("vision.encoder.stages.0.layers", list)

    def to_tokens(self, stream: Tensor) -> Hidden:
        patches = stream.shape[1] - self.prefix
        return torch.cat([stream[:, patches:], stream[:, :patches]], 1)

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        return torch.cat([tokens[:, self.prefix :], tokens[:, : self.prefix]], 1)

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        # after the blocks of the first stage, patches are assigned to groups, and later stages have groups alone
        first, *others = self.stages
        states, groups = first.split_x(stream)
        if first.downsample is not None:
            states = first.downsample(states, groups)[0]
        for stage in others:
            states, groups = stage(states, groups)[:2]
        return self.root.visual_projection(self.vision.layernorm(states).mean(1))


class GroupViTTextTower(EndTokenTower):
    """The text tower of GroupViT."""

    offers = frozenset({"states", "stem"})


class GroupViT(DualEncoder, name="groupvit"):
    """GroupViT (Xu et al., 2022).

    Patches and group tokens go through the blocks of the first stage, which are the layers here. Then the patches are
    assigned to groups, and no row stands for a place in the image any more.
    """

    image_tower = GroupViTImageTower
    text_tower = GroupViTTextTower
