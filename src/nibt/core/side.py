"""One side of a batch of pairs: a traced tower, the score of its embeddings, and its baseline states."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.data.units import Units
from nibt.errors import BadOption, Unsupported
from nibt.models._inputs import Cut, Inputs
from nibt.models._loaded import LoadedModel
from nibt.models._tower import Trace
from nibt.models.base import ImageTower, Model, Tower
from nibt.progress import report
from nibt.types import Embedding, Hidden, PerExample, States

AT_ONCE = 32
"""The largest number of states, over all examples, that go through a tower together."""
BUDGET = 2**21
"""The largest number of values in these states; with a graph, a tower of 12 blocks keeps about 1 KB per value."""
WITHOUT_GRAPH = 4  # so many times more states go through a tower together when no graph is kept
_KEPT = 24  # values that a block keeps for the gradient per value of its hidden state, about as many as in CLIP


@dataclass(frozen=True)
class _Arranged:
    """A score of embeddings that are arranged as another score takes them; ``restore`` returns its values to them."""

    score: Callable[[Embedding], PerExample]
    arrange: Callable[[Tensor], Tensor]
    restore: Callable[[Tensor, int], Tensor]

    def __call__(self, embeddings: Tensor) -> Tensor:
        return self.restore(self.score(self.arrange(embeddings)), -1)

    @property
    def similarities(self) -> Callable[[Tensor], Tensor] | None:
        compare = getattr(self.score, "similarities", None)
        return compare and (lambda embeddings: self.restore(compare(self.arrange(embeddings)), -2))


@dataclass(frozen=True)
class Side:
    """The input of a method, the same for images and captions.

    Attributes:
        model: The model.
        trace: The trace of the tower on the inputs.
        score: Computes the target, of shape (..., batch), from embeddings of shape (..., batch, dim).
        memory: The memory in MB for states that go through the tower together, with their gradients; None leaves it to
            nibt.
        origin: The trace of the other image, at whose states the path of the baseline ``against`` starts.
    """

    model: LoadedModel
    trace: Trace
    score: Callable[[Embedding], PerExample]
    memory: float | None = None
    origin: Trace | None = None

    @property
    def dual_encoder(self) -> Model:
        """The model, for what needs both of its sides."""
        return dual_encoder(self.model)

    @property
    def similarities(self) -> Callable[[Embedding], Float[Tensor, "*batch label"]] | None:
        """The function that computes the similarities of the score; None if only the score is known."""
        return getattr(self.score, "similarities", None)

    @property
    def tower(self) -> Tower:
        """The tower of this side."""
        return self.trace.tower

    @property
    def image_tower(self) -> ImageTower:
        """The tower of this side, for what needs whole images."""
        assert isinstance(self.tower, ImageTower)
        return self.tower

    @property
    def inputs(self) -> Inputs:
        """The inputs of the tower."""
        return self.trace.inputs

    def cut(self, layer: int) -> Cut:
        """Return the tower cut at a layer."""
        return self.trace.cut(layer)

    def shifted(self, shifts: Sequence[tuple[int, int]], lowest: int) -> "Side":
        """Return a side of views of the images, one view of all images after the other, with the same score."""
        tower = self.image_tower
        items = -1 - self.model.item_ndim  # the dimension of the items in embeddings, before those of each item

        # the score compares the items of a batch with what each has on the other side, so views get their own dimension
        score = _Arranged(
            self.score,
            lambda embeddings: embeddings.unflatten(items, (len(shifts), -1)),
            lambda values, dim: values.flatten(dim - 1, dim),
        )

        def moved(trace: Trace) -> Trace:
            key = tuple(shifts), lowest
            earlier = (trace.shifted or {}).get(key)
            if earlier is not None:
                return earlier

            moved_trace = tower.trace(tower.shifted(trace.inputs, shifts), lowest)
            if trace.shifted is not None:
                trace.shifted[key] = moved_trace
            return moved_trace

        return replace(self, trace=moved(self.trace), origin=self.origin and moved(self.origin), score=score)

    def take(self, rows: Sequence[int]) -> "Side":
        """Return the side of the items at ``rows``, each once, with the same score.

        The target gets the embeddings of all items, since it may compare each with an item of its own.
        """
        items = -1 - self.model.item_ndim
        index = torch.tensor(rows, device=self.trace.embedding.device)
        full = self.trace.embedding.detach()
        score = _Arranged(
            self.score,
            lambda taken: full.expand(*taken.shape[:items], *full.shape).index_copy(items, index, taken),
            lambda values, dim: values.index_select(dim, index),
        )
        return replace(self, trace=self.trace.take(rows), score=score, origin=self.origin and self.origin.take(rows))

    def embedded(self) -> "Side":
        """Return the same side with its unit embedding as the score, which adds a last dimension.

        A method that is linear in the target then computes a vector for each unit instead of a score.
        """
        return replace(self, score=partial(F.normalize, dim=-1))

    def stem(self) -> Cut:
        """Return the tower cut at its first tokens."""
        return self.tower.stem(self.inputs)

    @property
    def units(self) -> Units:
        """The units of methods without a layer: patches, the cells of a convolutional trunk's last map, or words."""
        return self.cut(self.tower.depth).units

    def value(self) -> PerExample:
        """Compute the score of the inputs."""
        with torch.no_grad():
            return self.score(self.trace.embedding)

    def gradient(self, cut: Cut, states: States, score: Callable[[Tensor], Tensor] | None = None) -> States:
        """Compute the gradients of the score, or of another one, at states of the cut tower."""
        compute = score or self.score
        states = states.detach().requires_grad_()
        with torch.enable_grad():
            # no state has a part in the score of another one, so the gradient of the sum has those of all scores
            total = compute(cut.rest(states)).sum()
            (gradient,) = torch.autograd.grad(total, states)
        return gradient

    def at_once(self, layer: int | None, hidden: Hidden) -> int | None:
        """Compute how many states, over all examples, fit into memory from a layer on (None: from the stem)."""
        if self.memory is None:
            return None
        kept = _KEPT * hidden[0].numel() * hidden.element_size() * max(1, self.tower.depth - (layer or 0))
        return max(1, int(self.memory * 2**20 / kept))

    def end(self, name: str, layer: int | None, cut: Cut, state: Hidden) -> Embedding:
        """Compute the embedding at the low end of a path: of the baseline, or of a ``state`` before it.

        The embedding of a blank input is a constant of the tower, which caches it, so it takes no forward pass.
        """
        if name == "blank" and layer is not None:
            return self.blank()

        with torch.no_grad():
            return cut.rest(state[None])[0]

    def blank(self) -> Embedding:
        """Compute the embeddings of blank inputs of the same shape from the states that the tower caches."""
        tower = self.trace.tower
        with torch.no_grad():
            return self.trace.cut(tower.depth).rest(tower.blank(self.trace.inputs, tower.depth)[None])[0]

    def baseline(self, name: str, layer: int | None, hidden: Hidden) -> Hidden:
        """Return the baseline state at a layer (None: at the stem).

        Args:
            name: ``zero``, ``blank``, ``mean`` (the mean states of the model), ``mean:FILE``, or ``against`` (the
                states of the other image).
            layer: The layer.
            hidden: The hidden state at that layer.

        Raises:
            BadOption: There is no such baseline.
            WrongBaseline: The mean states belong to another model, or do not fit the layer.
        """
        state, _, path = name.partition(":")
        if state == "zero":
            return torch.zeros_like(hidden)
        if state == "blank":
            return self.trace.tower.blank(self.trace.inputs, layer)
        if name == "against":
            return self._other(layer, hidden)
        if state == "mean":
            if layer is None:
                raise BadOption(
                    "baseline must be zero or blank at the first tokens, for which there are no mean states (got "
                    f"{name!r})"
                )
            from nibt.models._mean_states import mean_states  # which other baselines do not need

            return mean_states(self.dual_encoder, path).state(self.trace.tower, self.trace.inputs, hidden, layer)
        raise BadOption(f"baseline must be zero, blank, mean, mean:FILE or against (got {name!r})")

    def _other(self, layer: int | None, hidden: Hidden) -> Hidden:
        """Return the states of the other image at a layer, which must have the shape of those of the image."""
        if self.origin is None:
            raise BadOption(
                "the baseline against is the state of one other image, which only explain and batch take "
                "(against_images, --against)"
            )

        own_cut, other_cut = (
            self.tower.stem(trace.inputs) if layer is None else trace.cut(layer) for trace in (self.trace, self.origin)
        )
        if other_cut.hidden.shape != hidden.shape or own_cut.units != other_cut.units:
            raise BadOption(
                "the baseline against needs two images with the same rows and columns of patches for the model: give "
                "images of one size, or leave the baseline out"
            )
        return other_cut.hidden


def dual_encoder(model: LoadedModel) -> Model:
    """Return a model, which must have two sides."""
    if not isinstance(model, Model):
        raise Unsupported(
            "the method or its baseline needs a model that compares images with captions, not a generator"
        )
    return model


def chunks(count: int, like: Tensor, times: int = 1, at_once: int | None = None) -> Iterator[slice]:
    """Yield the slices of ``count`` states of each example, of the size of ``like``, that go through a tower together.

    ``times`` as many fit if no graph is kept. ``at_once`` is the number, over all examples, that fits into memory.

    Examples:
        >>> [(part.start, part.stop) for part in chunks(5, torch.zeros(16, 7, 8))]
        [(0, 2), (2, 4), (4, 5)]
    """
    room = BUDGET // max(1, like.numel()) if at_once is None else count
    most = min((at_once or AT_ONCE) // max(1, len(like)), room) * times
    for first in range(0, count, max(1, most)):
        last = min(first + max(1, most), count)
        yield slice(first, last)
        report(last, count)
