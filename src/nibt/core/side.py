"""One side of a batch of pairs: a traced tower, the score that the other side gives its answer, and the states
that say nothing.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from nibt.data.units import Units
from nibt.errors import BadOption, WrongBaseline
from nibt.models._attention import Attentions
from nibt.models._mean_states import FILE_NAME, MeanStates
from nibt.models._trace import Cut, Inputs, Trace
from nibt.models.base import Model, Tower
from nibt.types import Embedding, Hidden, PerExample

_KEPT = 24  # numbers that a block keeps for the gradient, for each number of its stream: CLIP's, about


@dataclass(frozen=True)
class Side:
    """All that a method sees. It is the same for images and for captions.

    ``score`` takes embeddings of shape (..., batch, dim) and gives numbers of shape (..., batch). ``memory`` is the
    room for states that go through together and for what is kept of them for a gradient, in MB; None leaves it to nibt.
    """

    model: Model
    trace: Trace
    score: Callable[[Embedding], PerExample]
    memory: float | None = None

    @property
    def tower(self) -> Tower:
        return self.trace.tower

    @property
    def inputs(self) -> Inputs:
        return self.trace.inputs

    def cut(self, layer: int) -> Cut:
        return self.trace.cut(layer)

    def stem(self) -> Cut:
        """The tower cut at its first tokens."""
        return self.tower.stem(self.inputs)

    def attentions(self, layer: int = 0) -> Attentions:
        """The attentions of the blocks from a layer on, on one graph with the embedding."""
        return self.trace.attentions(layer)

    @property
    def units(self) -> Units:
        """What methods without a layer score: patches, the cells of a convolutional trunk's last map, or words."""
        return self.cut(self.tower.depth).units

    def value(self) -> PerExample:
        """The score of the inputs themselves."""
        return self.score(self.trace.embedding)

    def at_once(self, layer: int | None, hidden: Hidden) -> int | None:
        """How many states, of whatever examples, there is room for from a layer on (None: from the stem)."""
        if self.memory is None:
            return None
        kept = _KEPT * hidden[0].numel() * hidden.element_size() * max(1, self.tower.depth - (layer or 0))
        return max(1, int(self.memory * 2**20 / kept))

    def at_end(self, name: str, layer: int | None, cut: Cut, state: Hidden) -> PerExample:
        """The score where a path ends: of the baseline itself, or of a ``state`` on the way to it."""
        with torch.no_grad():
            return self.score(self.end(name, layer, cut, state))

    def end(self, name: str, layer: int | None, cut: Cut, state: Hidden) -> Embedding:
        """The embedding where a path ends.

        What a blank input ends in is a constant of the tower, and remembered, so that no forward pass is due.
        """
        if name == "blank" and layer is not None:
            return self.blank()
        with torch.no_grad():
            return cut.rest(state[None])[0]

    def blank(self) -> Embedding:
        """The embeddings of inputs of the same shape that say nothing, from the states that the tower remembers."""
        last = self.tower.depth
        with torch.no_grad():
            return self.cut(last).rest(self.tower.blank(self.inputs, last)[None])[0]

    def baseline(self, name: str, layer: int | None, hidden: Hidden) -> Hidden:
        """The state to narrow to, at a layer (None: at the stem): ``zero``, ``blank``, ``mean`` (the model's own)
        or ``mean:FILE``.

        Raises:
            BadOption: There is no such baseline.
            WrongBaseline: The mean states are of another model, or do not fit the layer.

        """
        kind, _, path = name.partition(":")
        if kind == "zero":
            return torch.zeros_like(hidden)
        if kind == "blank":
            return self.tower.blank(self.inputs, layer)
        if kind == "mean" and layer is None:
            raise BadOption(
                f"mean states are of layers, not of the first tokens: baseline must be zero or blank here "
                f"(got {name!r})"
            )
        if kind == "mean":
            assert layer is not None
            return mean_states(self.model, path).state(self.tower, self.inputs, hidden, layer)
        raise BadOption(f"baseline must be zero, blank, mean or mean:FILE (got {name!r})")


def mean_states(model: Model, path: str = "") -> MeanStates:
    """The mean states of a file, or those that ship with an embedded model."""
    if not path and model.folder is None:
        raise WrongBaseline(
            f"the model {model.id} ships no mean states: make them with nibt calibrate, and give baseline='mean:FILE'"
        )
    file = path or str(model.folder and model.folder / FILE_NAME)
    changed = os.path.getmtime(file) if os.path.exists(file) else 0.0
    return _loaded(file, changed, model.weights_hash, model)


@lru_cache(maxsize=8)
def _loaded(path: str, changed: float, weights_hash: str, model: Model) -> MeanStates:
    """A file is read again when it, or the model's weights, have changed."""
    return MeanStates.load(path, model)
