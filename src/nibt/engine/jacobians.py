"""Contributions of tokens to the unit embedding of a tower, as vectors, by integration along a path.

Let z(l) = r + l (h - r) be the path from the baseline r to the hidden state h, e(z) the unit embedding and J(z) its
derivative. The contribution of the token row t is the vector P[t] = integral of J(z(l)) (h - r)_t over l. The P[t] of
all rows sum to e(h) - e(r), and P[t] . v is NIB's score of the row for a caption (or an image) with the unit
embedding v.

There are two ways to compute them. Forward mode (``jvp_integral``) takes a forward pass for each node, and about one
more for each direction and node. Backward mode (``vjp_integral``) takes a forward pass for each node, and a backward
pass for each vector v and node.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.quadrature import BUDGET, Nodes, chunks, nodes, refined
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.methods._views import Views
from nibt.methods.nib import NIB
from nibt.models._attention import AttentionRecorder
from nibt.models._trace import Cut
from nibt.results.attribution import allowed
from nibt.types import Hidden, PerExample, States

Directions = Float[Tensor, "direction batch token width"]
Vectors = Float[Tensor, "direction batch dim"]


def jvp_integral(cut: Cut, start: Hidden, path: Nodes, directions: Directions, at_once: int | None = None) -> Vectors:
    """Compute the integral of J(z) d along the path for each direction d, in forward mode.

    The forward pass of the states is shared by all directions, if torch supports that. Attention is computed without
    fused kernels, which have no forward mode.

    Args:
        cut: The tower, cut at the layer where the path ends.
        start: The baseline state.
        path: The nodes of the quadrature rule.
        directions: The directions d: (direction, batch, token, width).
        at_once: The largest number of directional derivatives that are computed together.

    Returns:
        One vector per direction: (direction, batch, dim).

    """
    most = at_once or max(1, BUDGET // 2 // cut.hidden.numel())  # more is slower on a processor
    count, step = len(path.positions), max(1, most // len(directions))
    total = cut.hidden.new_zeros(())
    for part in (slice(first, min(first + step, count)) for first in range(0, count, step)):
        states = _on_path(cut, start, path, part)
        derivative = partial(_derivative, cut, states, start.new_tensor(path.weights[part])[:, None, None])
        with torch.no_grad(), AttentionRecorder(keep=False):
            total = total + (
                torch.func.vmap(derivative, chunk_size=most)(directions)
                if cut.mapped
                else torch.stack([derivative(direction) for direction in directions])
            )
    return total


def _derivative(
    cut: Cut, states: States, weights: Float[Tensor, "node 1 1"], direction: Hidden
) -> Float[Tensor, "batch dim"]:
    """Return the directional derivative of the unit embeddings of states, summed with weights over the nodes."""
    tangent = (direction.expand_as(states),)
    pushed_forward = torch.func.jvp(lambda moving: F.normalize(cut.rest(moving), dim=-1), (states,), tangent)
    return (weights * pushed_forward[1]).sum(0)


def vjp_integral(
    cut: Cut, start: Hidden, path: Nodes, vectors: Vectors, at_once: int | None = None
) -> Float[Tensor, "direction batch token"]:
    """Compute P[t] . v for each token row t and each vector v, in backward mode.

    Args:
        cut: The tower, cut at the layer where the path ends.
        start: The baseline state.
        path: The nodes of the quadrature rule.
        vectors: The vectors v: (direction, batch, dim).
        at_once: The largest number of states that go through the tower together.

    """
    difference = cut.hidden - start
    total = difference.new_zeros(len(vectors), *difference.shape[:2])
    for part in chunks(len(path.positions), cut.hidden, at_once=at_once):
        states = _on_path(cut, start, path, part).requires_grad_()
        weights = start.new_tensor(path.weights[part])[:, None, None, None]
        with torch.enable_grad():
            embedded = F.normalize(cut.rest(states), dim=-1)
        for index, vector in enumerate(vectors):
            (gradient,) = torch.autograd.grad(
                embedded, states, vector.expand_as(embedded), retain_graph=index < len(vectors) - 1
            )
            total[index] += ((weights * gradient).sum(0) * difference).sum(-1)
    return total


def _on_path(cut: Cut, start: Hidden, path: Nodes, part: slice) -> States:
    """Return the states at a slice of the nodes."""
    positions = start.new_tensor(path.positions[part])[:, None, None, None]
    return (start + positions * (cut.hidden - start)).detach()


def part_vectors(cut: Cut, start: Hidden, path: Nodes, masks: Float[Tensor, "part token"], dim: int) -> Vectors:
    """Compute the sum of P[t] over the rows of each part, in the mode that takes fewer passes.

    Args:
        cut: The tower, cut at the layer where the path ends.
        start: The baseline state.
        path: The nodes of the quadrature rule.
        masks: The parts, as ``part_masks`` returns them.
        dim: The size of an embedding.

    """
    difference = cut.hidden - start
    if len(masks) <= dim:  # a forward pass for each part, or a backward pass for each number of the embedding
        return jvp_integral(cut, start, path, masks.to(difference)[:, None, :, None] * difference)
    basis = torch.eye(dim, device=start.device, dtype=start.dtype)[:, None].expand(-1, len(difference), -1)
    return torch.einsum("dbt,pt->pbd", vjp_integral(cut, start, path, basis), masks.to(difference))


def part_masks(groups: Sequence[Sequence[int]], count: int) -> Float[Tensor, "part token"]:
    """Return a part for each group of rows, and a last part for all rows outside of the groups.

    Args:
        groups: The row numbers of each group.
        count: The number of rows.

    Returns:
        1 on the rows of a part, 0 elsewhere.

    """
    masks = torch.zeros(len(groups) + 1, count, dtype=torch.float32, device="cpu")
    for index, group in enumerate(groups):
        masks[index, list(group)] = 1
    masks[-1] = 1 - masks[:-1].sum(0)
    return masks


@dataclass(frozen=True)
class LayerPath:
    """The path of one example from the baseline to the hidden state at a layer.

    Attributes:
        cut: The tower, cut at the layer.
        start: The baseline state.
        change: The change of the unit embedding along the path, which is the exact sum of the P[t] of all rows.
        method: The options of NIB.

    """

    cut: Cut
    start: Hidden
    change: Float[Tensor, " dim"]
    method: NIB

    @property
    def rows(self) -> int:
        """The number of rows of a state, special tokens included."""
        return self.cut.hidden.shape[1]

    def paths(self) -> Iterator[Nodes]:
        """Yield the nodes of the rule; with a tolerance, then twice as many each time."""
        return refined(self.method.quadrature, self.method.steps, self.method.floor, self.method.tolerance is not None)

    def allowed(self, change: Tensor) -> Tensor:
        """Return the largest allowed gap between a sum and a change."""
        return allowed(change, self.method.tolerance)


@dataclass(frozen=True)
class PathIntegral:
    """The result of an integration.

    Attributes:
        values: The vectors of parts, (part, dim), or the scores of rows for several vectors, (vector, token).
        steps: The number of nodes for each row of ``values``.
        missed: Whether the completeness gap of each row of ``values`` is above the tolerance.

    """

    values: Tensor
    steps: PerExample
    missed: Bool[Tensor, " row"]

    @classmethod
    def mean(cls, integrals: "Sequence[PathIntegral]") -> "PathIntegral":
        """Return the mean over the layers of a method."""
        values = torch.stack([integral.values for integral in integrals])
        return cls(values.mean(0), most_steps(integrals), any_missed(integrals))


def most_steps(integrals: Sequence[PathIntegral]) -> PerExample:
    """Return the largest number of nodes of several integrals, for each row."""
    return torch.stack([integral.steps for integral in integrals]).amax(0)


def any_missed(integrals: Sequence[PathIntegral]) -> Bool[Tensor, " row"]:
    """Return whether the gap of any of several integrals is above the tolerance, for each row."""
    return torch.stack([integral.missed for integral in integrals]).any(0)


@dataclass(frozen=True)
class SidePaths:
    """The paths of one example: at each layer of a method, for each view.

    Attributes:
        after: The unit embedding, as the mean over the views: (dim).
        paths: For each view, the path at each layer.
        views: The views; None if there is only one.

    """

    after: Float[Tensor, " dim"]
    paths: Sequence[Sequence[LayerPath]]
    views: Views | None

    @classmethod
    def of(cls, side: Side, method: NIB) -> "SidePaths":
        """Return the paths of a side with one example."""
        views = Views.of(side, method.views, method.layer) if method.views > 1 else None
        sides = list(views.sides(1)) if views else [side]
        ends = [F.normalize(one.trace.embedding, dim=-1)[0] for one in sides]
        paths = [_layer_paths(one, end, method) for one, end in zip(sides, ends, strict=True)]
        return cls(torch.stack(ends).mean(0), paths, views)

    @property
    def change(self) -> Float[Tensor, " dim"]:
        """The change of the unit embedding along the path, as the mean over layers and views."""
        return torch.stack([torch.stack([layer.change for layer in layers]).mean(0) for layers in self.paths]).mean(0)

    def integrate(self, integral: Callable[[LayerPath], PathIntegral]) -> list[PathIntegral]:
        """Compute an integral for each view, as the mean over the layers."""
        return [PathIntegral.mean([integral(layer) for layer in layers]) for layers in self.paths]

    def blend(self, values: Sequence[Float[Tensor, "row unit"]], grid: Grid) -> tuple[Float[Tensor, "row cell"], Grid]:
        """Blend values on the units of each view; see ``Views.blend``."""
        return (values[0], grid.bare()) if self.views is None else self.views.blend(torch.stack(list(values)), grid)


def _layer_paths(side: Side, after: Float[Tensor, " dim"], method: NIB) -> list[LayerPath]:
    """Return the path at each layer of a method, for a side with one example, whose unit embedding is ``after``."""
    low, layers = nodes(method.quadrature, method.steps, method.floor).low, []
    for layer in method.layer:
        cut = side.cut(layer)
        start = side.baseline(method.baseline, layer, cut.hidden)
        before = side.end(method.baseline, layer, cut, start + low * (cut.hidden - start))
        layers.append(LayerPath(cut, start, after - F.normalize(before, dim=-1)[0], method))
    return layers


def vectors(layer: LayerPath, masks: Float[Tensor, "part token"]) -> PathIntegral:
    """Compute the sum of P[t] over the rows of each part: (part, dim).

    With a tolerance, the steps are doubled until the length of the gap between the sum of all parts and ``change`` is
    below that share of the length of ``change``.

    Args:
        layer: The path.
        masks: Parts that have each row exactly once.

    """
    size = layer.change.norm()
    for path in layer.paths():
        result = part_vectors(layer.cut, layer.start, path, masks, len(layer.change))[:, 0]
        missed = (result.sum(0) - layer.change).norm() > layer.allowed(size)
        if not missed:
            break
    return PathIntegral(result, result.new_full((len(masks),), len(path.positions)), missed.expand(len(masks)))


def scores(layer: LayerPath, aim: Float[Tensor, "vector dim"], most: Float[Tensor, " vector"]) -> PathIntegral:
    """Compute P[t] . v for each vector v: (vector, token).

    It takes the cheaper way: a backward pass per vector, or the P[t] of all rows and a matrix product. With a
    tolerance, the steps of each vector are doubled until the gap between its sum and ``v . change`` is small enough.

    Args:
        layer: The path.
        aim: The vectors v.
        most: For each vector, the change that the tolerance is relative to.

    """
    expected, bound = aim @ layer.change, layer.allowed(most)
    result, steps = aim.new_zeros(len(aim), layer.rows), aim.new_zeros(len(aim))
    missed = torch.ones_like(expected, dtype=torch.bool)
    for path in layer.paths():
        if int(missed.sum()) <= min(layer.rows, aim.shape[1]):
            result[missed] = vjp_integral(layer.cut, layer.start, path, aim[missed][:, None])[:, 0]
        else:
            each = torch.eye(layer.rows, dtype=aim.dtype, device=aim.device)
            result[missed] = aim[missed] @ part_vectors(layer.cut, layer.start, path, each, aim.shape[1])[:, 0].T
        steps[missed] = len(path.positions)
        missed = (result.sum(-1) - expected).abs() > bound
        if not missed.any():
            break
    return PathIntegral(result, steps, missed)
