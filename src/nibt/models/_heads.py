"""Towers by the token that their head reads, and a family whose class has both encoders and their projections."""

from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from nibt.errors import CannotLoad
from nibt.models._family import Family
from nibt.models._hugging_face import HuggingFaceImageTower, HuggingFaceTextTower, load_pretrained, one_row
from nibt.models._lines import OnTrack
from nibt.models._request import LoadRequest
from nibt.models._text_tower import TextTower
from nibt.models._tower import part
from nibt.models.base import ImageTower, Inputs
from nibt.options import Keywords
from nibt.types import Embedding


class ClassTokenTower(HuggingFaceImageTower):
    """An image tower whose head reads the class token, as that of CLIP."""

    prefix = 1
    reads_first_row = True
    norm = part("vision.post_layernorm")
    """The norm after the blocks."""
    projection = part("root.visual_projection")
    """The map to the joint space."""

    @cached_property
    def entry(self) -> nn.Module:
        for name in ("pre_layrnorm", "pre_layernorm"):  # the first is the spelling of CLIP
            if hasattr(self.vision, name):
                return getattr(self.vision, name)
        return self.blocks[0]

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.projection(self.norm(stream[:, 0]))

    def first_rows(
        self, number: int, stream: Tensor | OnTrack, count: int, args: tuple, kwargs: Keywords
    ) -> Tensor | None:
        if count > 1:
            return None
        return one_row(self.blocks[number], stream, stream.new_zeros(len(stream), dtype=torch.long), *args, **kwargs)


class EndTokenTower(HuggingFaceTextTower):
    """A text tower whose head reads the end token, as that of CLIP."""

    norm = part("model.final_layer_norm")
    """The norm after the blocks."""

    end = part("model.eos_token_id", lambda number: None if number == 2 else number)
    """The id of the end token; None if it is the highest id of the caption.

    Configs from before Transformers pull request 24773 have 2, which means the highest.
    """

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        end = self.end
        ids = inputs.values
        is_end = ids == (ids.amax(1, keepdim=True) if end is None else end)
        return {"row": is_end.int().argmax(1)}  # the first one, since CLIP pads captions with its end token

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        rows = stream[torch.arange(len(stream), device=stream.device), extra["row"]]
        return self.root.text_projection(self.norm(rows))

    def end_row(self, inputs: Inputs) -> Int[Tensor, " batch"]:
        return self.head_inputs(inputs)["row"]

    def one_row(
        self, number: int, stream: Tensor | OnTrack, row: Int[Tensor, " batch"], args: tuple, kwargs: Keywords
    ) -> Tensor | None:
        return one_row(self.blocks[number], stream, row, *args, **kwargs)

    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: Keywords) -> Embedding | None:
        row = one_row(self.blocks[-1], stream, extra["row"], *args, **kwargs)

        # what was computed has this row alone, in the first place
        return None if row is None else self.head(row, {"row": torch.zeros_like(extra["row"])})


class FirstTokenTower(HuggingFaceTextTower):
    """A text tower whose head reads the first token, as those of BERT."""

    norm: nn.Module = nn.Identity()
    """What is between the blocks and the projection."""
    projection = part("root.text_projection")
    """The map to the joint space."""

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.projection(self.norm(stream[:, 0]))


class DualEncoder(Family):
    """Base class of families of one class with both encoders."""

    auto_class: ClassVar[str] = "AutoModel"
    """The name of the class of Transformers that loads a checkpoint."""
    within: ClassVar[str] = ""
    """The name of the dual encoder in a class with more heads, such as ``clip``."""
    image_tower: ClassVar[type]
    text_tower: ClassVar[type]

    @classmethod
    def load(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        import transformers

        model_class = getattr(transformers, cls.auto_class, None)
        if model_class is None:
            raise CannotLoad(f"{source!r} needs a newer version of Transformers, which has {cls.auto_class}")
        return load_pretrained(model_class, source, request, cls.unread)

    @classmethod
    def towers(cls, module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        inner = cls.dual_encoder(module)
        return cls.image_tower(inner, request), cls.text_tower(inner, request)

    @classmethod
    def dual_encoder(cls, module: nn.Module) -> Any:
        """Return the part of a class with more heads that is the dual encoder."""
        return getattr(module, cls.within, module) if cls.within else module

    @classmethod
    def scale_and_bias(cls, module: nn.Module) -> tuple[float, float]:
        inner = cls.dual_encoder(module)
        temperature = getattr(inner, "temperature", None)
        if temperature is not None:
            return 1 / temperature.detach().float().item(), 0.0
        if not hasattr(inner, "logit_scale"):  # BLIP compares by the cosine itself
            return 1.0, 0.0
        return Family.scale_and_bias(inner)
