"""The direct paths of an unmodified tower: its embedding as an affine function of what its blocks add.

Each block adds the output of its attention and that of its perceptron to the hidden state. If the scales of all norms
and the weights of a pooling attention are frozen at their values, the embedding is an affine function of these outputs
and of the first state, along the residual connections. Nothing else is assumed: norms may be before or after the sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.errors import Unsupported
from nibt.models._attention import SUMS, AttentionRecord, AttentionRecorder, recordable, single_record
from nibt.models._tower import Tower, Trace, first
from nibt.options import Keywords
from nibt.torch_modes import TorchFunction
from nibt.types import Embedding, Hidden, PerExample

_LAYER_NORM = {F.layer_norm, torch.layer_norm}
_RMS_NORM = {F.rms_norm, torch.rms_norm}
_LENGTHS = {torch.rsqrt, Tensor.rsqrt, Tensor.norm, torch.norm, torch.linalg.norm, torch.linalg.vector_norm}
_CLOSE = 1e-3  # of gradients at two points, as a share of the largest; rounding stays below 1e-5


@dataclass(frozen=True)
class DirectParts:
    """A product with the embedding, split by where it comes from."""

    heads: Float[Tensor, "batch layer head token"]
    perceptrons: Float[Tensor, "batch perceptron"]  # of each block and, last, of a pooling head
    first: PerExample  # patches or words with their positions
    constant: PerExample  # biases


@dataclass(frozen=True)
class DirectPaths:
    """The embeddings of a batch as an affine function of the first state and the outputs of heads and perceptrons."""

    embedding: Embedding
    first: Hidden
    attentions: Sequence[AttentionRecord]  # whose outputs are on the graph of the embedding
    perceptrons: Sequence[Sequence[Tensor]]  # of each block and, last, of the head
    constant: Embedding  # if all of these were zero

    def parts(self, directions: Embedding) -> DirectParts:
        """Split the product of the embedding of each item with a direction."""
        first, *others = self.gradients(directions)
        attentions = others[: len(self.attentions)]
        of_perceptrons = iter(others[len(self.attentions) :])
        heads = [
            ((record.weights.mT @ gradient) * record.value).sum(-1)
            for record, gradient in zip(self.attentions, attentions, strict=True)
        ]
        added = [
            sum(_product(output, next(of_perceptrons)) for output in outputs) + torch.zeros_like(directions[:, 0])
            for outputs in self.perceptrons
        ]
        constant = (self.constant * directions).sum(-1)
        return DirectParts(torch.stack(heads, 1), torch.stack(added, 1), _product(self.first, first), constant)

    def gradients(self, directions: Embedding) -> tuple[Tensor, ...]:
        """Compute the gradients of the product with a direction at the first state, the heads and the perceptrons."""
        outputs = [output for several in self.perceptrons for output in several]
        leaves = [self.first, *(record.output for record in self.attentions), *outputs]
        return _gradients(self.embedding, directions, leaves)

    def head_vectors(self) -> Float[Tensor, "batch layer head dim"]:
        """Compute what each head adds to the embedding, over all tokens.

        The product with a direction is linear in it; its gradient there is the vector.
        """
        directions = torch.zeros_like(self.embedding, requires_grad=True)
        outputs = [record.output for record in self.attentions]
        gradients = _gradients(self.embedding, directions, outputs, create_graph=True)
        layers = []
        for output, gradient in zip(outputs, gradients, strict=True):
            products = (gradient * output.detach()).sum((0, 2, 3))
            vectors = [
                _gradients(product[None], torch.ones_like(product[None]), [directions])[0] for product in products
            ]
            layers.append(torch.stack(vectors, 1))

        return torch.stack(layers, 1).detach()


def _gradients(
    out: Tensor, weights: Tensor, leaves: Sequence[Tensor], create_graph: bool = False
) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        return torch.autograd.grad(
            out,
            leaves,
            weights,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )


def _product(state: Tensor, gradient: Tensor) -> PerExample:
    return (state.detach() * gradient).flatten(1).sum(1)


def direct_paths(trace: Trace) -> DirectPaths:
    """Find the direct paths of a recorded forward pass."""
    tower = trace.tower
    if "attention" not in tower.offers:
        raise _refusal(tower, "it is no plain sequence of attention blocks")
    if trace.embedding.ndim > 2:
        raise _refusal(tower, "it computes several vectors of one input")
    if trace.additions:
        raise _refusal(tower, "features of the image are added after several of its blocks")

    recorder = _PathRecorder(tower)
    paths = _replay(trace, recorder)
    zero = _replay(trace, _PathRecorder(tower, recorder.frozen))
    paths = replace(paths, constant=zero.embedding.detach())
    embedding = paths.embedding
    numbers = torch.linspace(1, 2, embedding.shape[-1], dtype=embedding.dtype, device=embedding.device)
    direction = numbers.expand_as(embedding)
    at_states, at_zero = (point.gradients(direction) for point in (paths, zero))
    if any((one - two).abs().max() > _CLOSE * one.abs().max() for one, two in zip(at_states, at_zero, strict=True)):
        raise _refusal(tower, "its head is not linear")
    return paths


def _refusal(tower: Tower, why: str) -> Unsupported:
    return Unsupported(
        f"this {tower.called} cannot be decomposed, since {why}: use a method such as nib, or try the other side"
    )


def _replay(trace: Trace, recorder: "_PathRecorder") -> DirectPaths:
    """Replay all blocks and the head, with the residual path on a graph."""
    tower = trace.tower
    stream = recordable(trace, 0)
    start = recorder.leaf(tower.to_tokens(stream))
    path = tower.to_stream(start, stream)
    attentions = []
    with tower.computing(), torch.enable_grad(), recorder:
        for number, (args, kwargs) in enumerate(trace.calls):
            stream = trace.streams[number]
            assert stream is not None
            recorder.enter(stream.detach(), path)
            out = first(tower.blocks[number](recorder.entered, *args, **kwargs))
            path = recorder.path_of(out)
            record = single_record(recorder.take_records(), number)
            if path is None or record.weights.shape[-1] != tower.to_tokens(stream).shape[1]:
                raise _refusal(tower, f"block {number} does not add an attention over all tokens to its input")

            attentions.append(record)
        recorder.leave()
        embedding = tower.after(tower.head(path, tower.head_inputs(trace.inputs)))

    return DirectPaths(embedding, start, attentions, recorder.perceptrons, torch.zeros_like(embedding))


class _PathRecorder(AttentionRecorder):
    """Context that separates the residual path of each block from what is added to it.

    The path of a hidden state is a tensor with the same numbers, on a graph with the outputs of attentions and
    perceptrons only. The blocks themselves compute with their recorded inputs. In the head, everything is on the graph.
    """

    def __init__(self, tower: Tower, frozen: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self._tower = tower
        self._zero, self._again = frozen is not None, iter(frozen or ())
        self.frozen: list[Tensor] = []  # the scales of norms and the weights of pooling, in order
        self.entered: Tensor
        self._paths: dict[int, tuple[Tensor, Tensor]] = {}  # by identity; the state itself is kept, so it stays unique
        self._in_head = False
        self.perceptrons: list[list[Tensor]] = []  # the outputs of each block and of the head
        self._attention_is_next = False

    def leaf(self, state: Tensor) -> Tensor:
        """Return a tensor of the graph with the numbers of a state, or with zeros."""
        state = state.detach()
        return (torch.zeros_like(state) if self._zero else state).requires_grad_()

    def enter(self, stream: Tensor, path: Tensor) -> None:
        """Begin a block."""
        self.entered = stream
        self._paths = {id(stream): (stream, path)}
        self.perceptrons.append([])
        self._attention_is_next = False

    def leave(self) -> None:
        """Begin the head."""
        self._paths = {}
        self._in_head = True
        self.perceptrons.append([])

    def path_of(self, state: object) -> Tensor | None:
        """Return the path of a hidden state, if it is one."""
        kept = self._paths.get(id(state))
        return None if kept is None else kept[1]

    def attended(self, record: AttentionRecord) -> Tensor:
        if self._in_head:
            return self._freeze(record.weights) @ record.value
        inputs = {name: getattr(record, name).detach() for name in ("weights", "query", "key", "value")}
        self._attention_is_next = True
        return super().attended(AttentionRecord(**inputs, output=self.leaf(record.output)))

    def __torch_function__(
        self, func: TorchFunction, types: Sequence[type], args: tuple = (), kwargs: Keywords | None = None
    ) -> Any:
        """Handle a torch function; torch disables this mode during the call."""
        kwargs = kwargs or {}
        if func in _LAYER_NORM:
            return self._norm(True, *args, **kwargs)
        if func in _RMS_NORM:
            return self._norm(False, *args, **kwargs)
        if func is F.normalize:
            return args[0] / self._freeze(args[0] / func(*args, **kwargs))
        if func in _LENGTHS:
            return self._freeze(func(*args, **kwargs))

        if func in SUMS and len(args) > 1 and all(isinstance(term, Tensor) for term in args[:2]):
            first, second = args[:2]
            if first.shape == second.shape and (id(first) in self._paths) != (id(second) in self._paths):
                return self._added(*((first, second) if id(first) in self._paths else (second, first)))

        return super().__torch_function__(func, types, args, kwargs)

    def _freeze(self, value: Tensor) -> Tensor:
        """Return a value as a constant, in the second pass that of the first one."""
        value = next(self._again) if self._zero else value.detach()
        self.frozen.append(value)
        return value

    def _norm(
        self,
        centers: bool,
        state: Tensor,
        shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float | None = None,
        *_: object,
    ) -> Tensor:
        """Compute a norm with a frozen scale, of a state and of its path."""
        axes = tuple(range(-len(shape), 0))
        least = torch.finfo(state.dtype).eps if eps is None else eps

        def centered(values: Tensor) -> Tensor:
            return values - values.mean(axes, keepdim=True) if centers else values

        scale = self._freeze((centered(state).square().mean(axes, keepdim=True) + least).rsqrt())

        def normed(values: Tensor) -> Tensor:
            out = centered(values) * scale if weight is None else centered(values) * scale * weight
            return out if bias is None else out + bias

        out = normed(state)
        path = self.path_of(state)
        if self._in_head:  # what is added to the input of a norm comes from a perceptron
            self._paths[id(state)] = state, state
        elif path is not None:
            self._paths[id(out)] = out, normed(path)

        return out

    def _added(self, state: Tensor, branch: Tensor) -> Tensor:
        """Add what an attention or a perceptron returns to a state and to its path."""
        path = self._paths[id(state)][1]
        if self._attention_is_next:
            self._attention_is_next = False
            added = branch
        else:
            output = self.leaf(branch if self._in_head else self._tower.to_tokens(branch))
            self.perceptrons[-1].append(output)
            added = output if self._in_head else self._tower.to_stream(output, branch)

        if self._in_head:
            return path + added

        out = state.detach() + branch.detach()
        self._paths[id(out)] = out, path + added
        return out
