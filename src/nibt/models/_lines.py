"""The states of a block on straight lines, whose keys and values are computed at the ends of the lines only.

A block that computes a few rows of its output reads the other rows by their keys and values, which are linear maps of
normalized states. On the line z(l) = r + l (h - r), the norm divides a linear function of l by a number:

    W norm(z(l)) = (W g (r - m(r)) + l W g (h - r - m(h - r))) / s(l) + W b

with the mean m over channels, the gain g and the bias b of the norm, and the standard deviation s(l), which follows
from three products of r and h - r. So keys and values are products of matrices with h - r and r, which do not depend on
l, and the few queries at all positions are multiplied with these two. The derivative of a score by l is the sum over
the channels of h - r times its gradient, which needs no further product of matrices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from nibt.torch_modes import has_hooks
from nibt.types import Hidden

LinearMap: TypeAlias = Callable[[Tensor], Tensor]
"""A linear map with a bias, such as that of keys."""
Heads: TypeAlias = Float[Tensor, "_ head _ channel"]
"""Rows of each state, divided among the heads."""
Place: TypeAlias = Callable[[Tensor], Tensor]
"""What is done with keys in heads, by their places."""
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

        # shares and rows are leaves of the graph: from their derivatives follows the score of each row
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

    def attended(
        self, norm: nn.LayerNorm, query: Heads, maps: tuple[LinearMap, LinearMap], place: Place, mask: Tensor | None
    ) -> Heads:
        """Return what queries, which are scaled, take up of all rows."""
        count, heads, _, channels = query.shape
        batch = len(self.track.change)
        keys, values = self.track.projections(norm, maps)
        shares = self.shares.unflatten(0, (-1, batch))
        deviation = keys.deviation(shares)

        # products of queries with the keys at both ends, in place of keys at all positions
        by_position = query.unflatten(0, (-1, batch))
        ends = (keys.start, keys.change, keys.bias.expand_as(keys.start))
        of_start, of_change, of_bias = (at_positions(by_position, place(in_heads(end, heads)).mT) for end in ends)
        logits = (of_start + along(shares) * of_change) / along(deviation) + of_bias
        logits = logits.flatten(0, 1)

        # the rows that are computed have states of their own
        normed = norm(self.rows)
        own_keys, own_values = (in_heads(linear(normed), heads) for linear in maps)
        index = self.places[:, None, None].expand(-1, heads, query.shape[2], -1)
        logits = logits.scatter(3, index, query @ own_keys.mT)
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask

        weights = logits.softmax(-1)
        of_rows = weights.gather(3, index) @ own_values

        # the values of all other rows lie on lines: their start, their change and their bias are read
        others = weights.scatter(3, index, torch.zeros_like(logits)).unflatten(0, (-1, batch))
        divided = others / along(deviation)
        taken = at_positions(divided, in_heads(values.start, heads))
        taken = taken + at_positions(divided * along(shares), in_heads(values.change, heads))
        taken = taken + others.sum(-1, keepdim=True) * in_heads(values.bias, heads)
        return taken.reshape(count, heads, -1, channels) + of_rows

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

    def deviation(self, shares: Float[Tensor, "position batch token"]) -> Float[Tensor, "position batch token"]:
        """Return by what the norm divides at positions on the lines."""
        of_start, of_both, of_change = self.moments
        variance = of_start + 2 * shares * of_both + shares**2 * of_change
        return (variance.clamp_min(0) + self.epsilon).sqrt()  # rounding may make it negative


def in_heads(rows: Float[Tensor, "batch row width"], heads: int) -> Heads:
    """Divide channels among heads."""
    return rows.unflatten(-1, (heads, -1)).transpose(1, 2)


def along(values: Float[Tensor, "position batch token"]) -> Float[Tensor, "position batch 1 1 token"]:
    """Return values of tokens beside those of heads and queries."""
    return values[:, :, None, None]


def at_positions(
    rows: Float[Tensor, "position batch head query inner"], ends: Float[Tensor, "#batch head inner outer"]
) -> Float[Tensor, "position batch head query outer"]:
    """Multiply rows at all positions with a matrix of each item and head, which is read once."""
    positions = len(rows)
    together = rows.permute(1, 2, 0, 3, 4).flatten(2, 3) @ ends
    return together.unflatten(2, (positions, -1)).permute(2, 0, 1, 3, 4)


def rows_of(stream: Tensor | OnTrack, rows: Int[Tensor, "state row"]) -> Float[Tensor, "state row width"]:
    """Return rows of states; of states on lines, the rows that are computed."""
    if isinstance(stream, OnTrack):
        return stream.rows
    return stream.take_along_dim(rows[..., None], 1)


def attended(
    stream: Tensor | OnTrack,
    norm: nn.Module,
    query: Heads,
    maps: tuple[LinearMap, LinearMap],
    mask: Tensor | None = None,
    scale: float | None = None,
    place: Place = lambda keys: keys,
) -> Float[Tensor, "state query width"] | None:
    """Return what queries take up of the normalized states of all rows.

    None for states on lines with other norms or maps than PyTorch's.

    Args:
        stream: The states.
        norm: The norm before the attention.
        query: The queries of a few rows.
        maps: The linear maps of keys and of values.
        mask: Added to the products of queries and keys, or true where rows are read.
        scale: The factor of these products; None is that of PyTorch.
        place: What is done with keys in heads, such as their rotation; of states on lines a linear map.
    """
    if isinstance(stream, Tensor):
        normed = norm(stream)
        key, value = (in_heads(linear(normed), query.shape[1]) for linear in maps)
        mixed = F.scaled_dot_product_attention(
            query.to(value.dtype), place(key).to(value.dtype), value, mask, scale=scale
        )
        return mixed.transpose(1, 2).flatten(2)

    if not isinstance(norm, nn.LayerNorm) or not _is_plain(norm) or not all(map(_is_linear, maps)):
        return None
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    return stream.attended(norm, scaled, maps, place, mask).transpose(1, 2).flatten(2)


def _is_plain(norm: nn.LayerNorm) -> bool:
    """Return whether a norm computes what ``nn.LayerNorm`` does over channels."""
    is_known = type(norm).__module__.partition(".")[0] in _LIBRARIES
    return is_known and len(norm.normalized_shape) == 1 and not has_hooks(norm)


def _is_linear(linear: LinearMap) -> bool:
    """Return whether a map is a plain linear one: adapters and quantized maps may be of other kinds."""
    if isinstance(linear, nn.Module):
        return type(linear) is nn.Linear and not has_hooks(linear)
    return isinstance(linear, partial)  # one of the parts of a joint map of queries, keys and values
