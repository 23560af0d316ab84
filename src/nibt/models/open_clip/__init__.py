"""OpenCLIP's models: its own ViTs and ResNets, timm trunks, its own text towers and Hugging Face's, CoCa.

``CLIP``, ``CustomTextCLIP`` and the contrastive part of ``CoCa`` differ in where they keep their parts; which
tower reads which part is decided here, the towers stand in the files beside.
"""

from dataclasses import replace
from typing import Any

from torch import nn

from nibt.errors import CannotLoad
from nibt.models.base import Family, ImageTower, Request, TextTower


class OpenClip(Family):
    """Every model that ``open_clip.create_model`` makes, from a hub, a folder or memory."""

    class_names = ("CLIP", "CustomTextCLIP", "CoCa")

    @staticmethod
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        """``source`` is ``ARCHITECTURE/TAG``, ``local-dir:FOLDER`` or ``hf-hub:REPOSITORY``."""
        import open_clip

        name, _, tag = (source, "", "") if ":" in source else source.partition("/")
        if ":" not in source and not tag:
            known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none: this architecture is unknown"
            raise CannotLoad(f"open_clip:{name} names no weights: write open_clip:{name}/TAG (tags: {known})")
        module = open_clip.create_model(
            name, pretrained=tag or None, force_image_size=None if request.fit == "whole" else request.image_size,
            require_pretrained=True, weights_only=True,
        )  # fmt: skip
        tokenizer = request.tokenizer or open_clip.get_tokenizer(name)
        return module.to(request.dtype), replace(request, tokenizer=tokenizer)

    @staticmethod
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        import open_clip

        from nibt.models.open_clip.text import HuggingFaceText, OwnText

        tokenizer = request.tokenizer or open_clip.SimpleTokenizer(context_length=module.context_length)
        text = HuggingFaceText if hasattr(getattr(module, "text", None), "config") else OwnText
        return _image_tower(module, request), text(module, tokenizer)


def _image_tower(module: Any, request: Request) -> ImageTower:
    from nibt.models.open_clip.image import ConvolutionalTower, OwnViT, TimmViT

    visual = module.visual
    if hasattr(visual, "transformer"):
        return OwnViT(module, request)
    if hasattr(getattr(visual, "trunk", None), "num_prefix_tokens"):
        return TimmViT(module, request)
    return ConvolutionalTower(module, request)


PART = OpenClip
