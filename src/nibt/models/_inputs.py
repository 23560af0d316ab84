"""What goes through a tower: the prepared inputs of a batch, and a tower cut at one of its states."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nibt.data.images import Region
from nibt.data.units import Units, Words
from nibt.preprocessing.images import Surroundings
from nibt.types import AtNodes, Hidden, States

See = Callable[[Tensor], Tensor | None]
"""Receives the first tokens, and returns their replacement or None."""


@dataclass(frozen=True)
class Inputs:
    """The prepared inputs of one batch.

    Attributes:
        values: Pixels or token ids.
        extra: Further inputs of the forward pass.
        words: For captions, the words that the rows stand for.
        around: For images, what the crop leaves out.
        regions: For images, the parts of the originals that the tower sees.
        notes: The warnings of each item.
    """

    values: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)
    words: Words | None = None
    around: tuple[Surroundings, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Sequence[int]) -> "Inputs":
        """Return a batch of the items at ``rows``, which may repeat."""
        index = torch.tensor(rows, device=self.values.device)
        words = self.words and Words(
            tuple(self.words.tokens[row] for row in rows),
            tuple(self.words.words[row] for row in rows),
            self.words.explained[torch.tensor(rows, device=self.words.explained.device)],
        )
        return Inputs(
            self.values[index],
            {key: value[index] for key, value in self.extra.items()},
            words,
            tuple(self.around[row] for row in rows) if self.around else (),
            tuple(self.regions[row] for row in rows) if self.regions else (),
            tuple(self.notes[row] for row in rows) if self.notes else (),
        )


@dataclass(frozen=True)
class Cut:
    """A tower cut at a layer.

    Attributes:
        hidden: The hidden state that enters the layer.
        units: What its rows stand for.
        rest: Computes the embeddings of several such states at once.
        mapped: Whether ``torch.func.vmap`` supports ``rest``.
    """

    hidden: Hidden
    units: Units
    rest: Callable[[States], AtNodes]
    mapped: bool = True
