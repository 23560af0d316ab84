"""The states of a block on straight lines, whose keys and values are computed at the ends of the lines only.

A block that computes a few rows of its output reads the other rows by their keys and values, which are linear maps of
normalized states. On the line z(l) = r + l (h - r), the norm divides a linear function of l by a number:

    W norm(z(l)) = (W g (r - m(r)) + l W g (h - r - m(h - r))) / s(l) + W b

with the mean m over channels, the gain g and the bias b of the norm, and the standard deviation s(l), which follows
from three products of r and h - r. So the keys and values at all positions l take one product of matrices with the
states h - r and one with r, and the derivative of a score by l is the sum over the channels of h - r times its
gradient, which needs no product at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nibt.torch_modes import has_hooks
from nibt.types import Hidden

LinearMap: TypeAlias = Callable[[Tensor], Tensor]
"""A linear map with a bias, such as that of keys."""
_LIBRARIES = ("torch", "open_clip", "timm", "nibt")
"""The packages whose norms over channels are those of PyTorch, with other dtypes."""


@dataclass(frozen=True, eq=False)
class Track:
    """The lines of the rows of a batch that enter a block.

    Attributes:
        start: The states at l = 0, which the items may share.
        change: The states at l = 1 minus those at l = 0.
        places: The rows that the block computes.
    """

    start: Float[Tensor, "#batch token width"]
    change: Hidden
    places: Int[Tensor, "batch row"]
    _projections: "list[_Projection]" = field(default_factory=list)  # of the block, once they are computed

    def at(self, positions: Sequence[float]) -> "OnTrack":
        """Return the states at positions on the lines, those of all items at the first position first."""
        shares = self.change.new_tensor(positions).repeat_interleave(len(self.change))[:, None]
        places = self.places.repeat(len(positions), 1)
        of_rows = self.places[..., None]
        start = self.start.expand_as(self.change).take_along_dim(of_rows, 1).repeat(len(positions), 1, 1)
        change = self.change.take_along_dim(of_rows, 1).repeat(len(positions), 1, 1)
        return OnTrack(
            track=self,
            shares=shares.repeat(1, self.change.shape[1]).requires_grad_(),
            rows=(start + shares[..., None] * change).requires_grad_(),
            change=change,
            places=places,
        )

    def projections(self, norm: nn.LayerNorm, maps: Sequence[LinearMap]) -> "list[_Projection]":
        """Return the linear maps with which the block reads normalized states of the lines."""
        if not self._projections:
            with torch.no_grad():
                self._projections.extend(_Projection.of(self, norm, linear) for linear in maps)
        return self._projections


@dataclass(frozen=True, eq=False)
class OnTrack:
    """States of the rows of a batch at positions on their lines.

    Attributes:
        track: The lines.
        shares: The position of each row of each item at each position; derivatives by it are those along the lines.
        rows: The states of the rows that are computed.
        change: What these rows change by on their lines.
        places: Their places among all rows.
    """

    track: Track
    shares: Float[Tensor, "state token"]
    rows: Float[Tensor, "state row width"]
    change: Float[Tensor, "state row width"]
    places: Int[Tensor, "state row"]

    def __len__(self) -> int:
        return len(self.shares)

    @property
    def shape(self) -> torch.Size:
        """The shape of the states, (state, token, width)."""
        return torch.Size([*self.shares.shape, self.rows.shape[-1]])

    @property
    def device(self) -> torch.device:
        """The device of the states."""
        return self.rows.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the states."""
        return self.rows.dtype

    def new_zeros(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return zeros on the device of the states."""
        return self.rows.new_zeros(count, dtype=dtype)

    def projected(self, norm: nn.LayerNorm, maps: Sequence[LinearMap]) -> list[Tensor]:
        """Return linear maps of the normalized states."""
        normed = norm(self.rows)
        index = torch.arange(len(self), device=self.device)[:, None]
        return [
            projection.at(self.shares).index_put((index, self.places), linear(normed))
            for projection, linear in zip(self.track.projections(norm, maps), maps, strict=True)
        ]

    def derivatives(self, of_shares: Tensor, of_rows: Tensor) -> Float[Tensor, "state token"]:
        """Return the sum over the channels of change times gradient, from the gradients by shares and by rows."""
        return of_shares.scatter(1, self.places, (of_rows * self.change).sum(-1))


@dataclass(frozen=True, eq=False)
class _Projection:
    """A linear map of the normalized states of a batch on their lines.

    Attributes:
        start: The map of the centered states at l = 0, without bias.
        change: That of their change.
        bias: The map of the bias of the norm.
        moments: The mean products over channels of start and start, start and change, change and change.
        epsilon: The number that the norm adds to the variance.
    """

    start: Float[Tensor, "#batch token out"]
    change: Float[Tensor, "batch token out"]
    bias: Tensor
    moments: tuple[Tensor, Tensor, Tensor]
    epsilon: float

    @classmethod
    def of(cls, track: Track, norm: nn.LayerNorm, linear: LinearMap) -> "_Projection":
        """Return the map of the states of a track."""
        start = track.start - track.start.mean(-1, keepdim=True)
        change = track.change - track.change.mean(-1, keepdim=True)
        gain = torch.ones_like(start[0, 0]) if norm.weight is None else norm.weight
        shift = torch.zeros_like(gain) if norm.bias is None else norm.bias
        zero = linear(torch.zeros_like(start[:1, :1]))  # the bias of the map
        return cls(
            start=linear(gain * start) - zero,
            change=linear(gain * change) - zero,
            bias=linear(shift + torch.zeros_like(start[:1, :1])),
            moments=((start * start).mean(-1), (start * change).mean(-1), (change * change).mean(-1)),
            epsilon=norm.eps,
        )

    def at(self, shares: Float[Tensor, "state token"]) -> Float[Tensor, "state token out"]:
        """Return the map at positions on the lines."""
        by_position = shares.unflatten(0, (-1, len(self.change)))
        of_start, of_both, of_change = self.moments
        variance = of_start + 2 * by_position * of_both + by_position**2 * of_change
        deviation = (variance.clamp_min(0) + self.epsilon).sqrt()
        values = (self.start + by_position[..., None] * self.change) / deviation[..., None]
        return (values + self.bias).flatten(0, 1)


def rows_of(stream: Tensor | OnTrack, rows: Int[Tensor, "state row"]) -> Float[Tensor, "state row width"]:
    """Return rows of states; of states on lines, the rows that are computed."""
    if isinstance(stream, OnTrack):
        return stream.rows
    return stream.take_along_dim(rows[..., None], 1)


def projected(stream: Tensor | OnTrack, norm: nn.Module, maps: Sequence[LinearMap]) -> list[Tensor] | None:
    """Return linear maps of normalized states; None for states on lines with other norms or maps than PyTorch's."""
    if isinstance(stream, Tensor):
        normed = norm(stream)
        return [linear(normed) for linear in maps]
    if not isinstance(norm, nn.LayerNorm) or not _is_plain(norm) or not all(map(_is_linear, maps)):
        return None
    return stream.projected(norm, maps)


def _is_plain(norm: nn.LayerNorm) -> bool:
    """Return whether a norm computes what ``nn.LayerNorm`` does over channels."""
    is_known = type(norm).__module__.partition(".")[0] in _LIBRARIES
    return is_known and len(norm.normalized_shape) == 1 and not has_hooks(norm)


def _is_linear(linear: LinearMap) -> bool:
    """Return whether a map is a plain linear one: adapters and quantized maps may be of other kinds."""
    if isinstance(linear, nn.Module):
        return type(linear) is nn.Linear and not has_hooks(linear)
    return isinstance(linear, partial)
