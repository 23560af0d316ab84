"""The part that image towers of convolutional stages share: their hidden states are feature maps."""

from torch import Tensor

from nibt.data.units import Grid, Units
from nibt.models.base import ImageTower, Inputs
from nibt.types import Hidden


class FeatureMapTower(ImageTower):
    """Base class of image towers whose hidden states have the shape (batch, channel, row, column).

    Each feature map that enters a block is a layer, and so is the output of the last block, which is the default layer.
    """

    positional = False
    mapped = False
    offers = frozenset({"stem"})

    def relative(self, share: float) -> int:
        return self.depth

    def to_tokens(self, stream: Tensor) -> Hidden:
        return stream.flatten(2).transpose(1, 2)

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, like.shape[-2:])

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(*stream.shape[-2:])
