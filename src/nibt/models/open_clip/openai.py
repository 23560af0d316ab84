"""The towers of OpenAI's own package ``clip``, whose class ``CLIP`` has the name of OpenCLIP's.

Its transformers take states of the shape (token, batch, width), and its parts lack what OpenCLIP added to them.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nibt.data.units import Grid, Units
from nibt.models._inputs import See
from nibt.models._lines import OnTrack
from nibt.models._tower import Tower
from nibt.models.base import Inputs
from nibt.models.open_clip.image import ConvolutionalTower, OwnViT
from nibt.models.open_clip.text import OwnText
from nibt.options import Keywords
from nibt.types import Embedding, Hidden


def is_openai(module: nn.Module) -> bool:
    """Return whether a class named ``CLIP`` is OpenAI's; OpenCLIP's has an ``image_size``."""
    return hasattr(getattr(module, "visual", None), "input_resolution")


class _TokenFirst(Tower):
    """Converts states of the shape (token, batch, width)."""

    encode_options: ClassVar[Keywords] = {}

    def to_tokens(self, stream: Tensor) -> Hidden:
        return stream.transpose(0, 1)

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        return tokens.transpose(0, 1)

    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: Keywords) -> None:
        return None  # its blocks are of another class

    def one_row(self, number: int, stream: Tensor | OnTrack, row: Tensor, args: tuple, kwargs: Keywords) -> None:
        return None

    def on_first_tokens(self, see: See) -> RemovableHandle:
        def transposed(tokens: Tensor) -> Tensor | None:  # the first tokens are not transposed yet
            replaced = see(tokens.transpose(0, 1))
            return None if replaced is None else replaced.transpose(0, 1)

        return super().on_first_tokens(transposed)


class OpenAIViT(_TokenFirst, OwnViT):
    """OpenAI's ``VisionTransformer``."""

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        pooled = self.visual.ln_post(stream[0])
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        side = self.visual.input_resolution // self.visual.conv1.kernel_size[0]
        return Grid(side, side, prefix=1)


class OpenAIResNet(ConvolutionalTower):
    """OpenAI's ``ModifiedResNet``."""

    encode_options: ClassVar[Keywords] = {}


class OpenAIText(_TokenFirst, OwnText):
    """The text tower of OpenAI's ``CLIP``, whose end token has the highest id."""

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return super().units(inputs, self.to_tokens(stream))

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"row": inputs.values.argmax(-1)}

    def end_row(self, inputs: Inputs) -> Tensor:
        return self.head_inputs(inputs)["row"]

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        rows = stream[extra["row"], torch.arange(stream.shape[1], device=stream.device)]
        return self.text.ln_final(rows).to(self.module.dtype) @ self.text.text_projection
