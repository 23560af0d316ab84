"""The forms of retraining, from the cheapest: a linear map on each side's cached features; the last blocks and the
head of each tower, from cached streams; both towers whole.

Each trains a copy, in which dropout and the statistics of batch norms stand still (evaluation mode), and so does the
model's scale of the cosine. The caller's model is never trained.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from nibt.errors import BadOption
from nibt.evaluation.audit.randomization import copied, stages
from nibt.evaluation.roar.inputs import Streams, TowerInputs, collect
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.types import Embedding, Modality

Materials = Mapping[Modality, TowerInputs]


class Trainer(ABC):
    """What is trained, and from what.

    ``begin`` puts it back to where training starts, which without draws is the model as it is, and with them a model
    whose heads know nothing.
    """

    name: ClassVar[str]

    def __init__(self, model: Model, whole: Materials, blocks: int | None, size: int) -> None:
        self.model, self.whole, self.size = model, whole, size
        self.blocks = {side: trained_blocks(model, side, blocks) for side in SIDES}
        self.parameters: list[nn.Parameter] = []
        self.begin()

    @abstractmethod
    def source(self, side: Modality, material: TowerInputs) -> Any:
        """What training is fed with of one side, from the untouched model, without a graph."""

    @abstractmethod
    def begin(self, draws: torch.Generator | None = None) -> None:
        """Put the parameters to what they are before training.

        Raises:
            BadOption: A head is to know nothing, and has no parameters.

        """

    @abstractmethod
    def embed(self, side: Modality, source: Any, items: Sequence[int]) -> Embedding:
        """Embeddings of some items, differentiable by the parameters."""

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(one.numel() for one in self.parameters)


class Features(Trainer):
    """Both towers stand still: their embeddings are cached, and a square linear map on each side, at first the
    identity, is trained. Where a tower ends in a linear projection, that is to train the projection.
    """

    name = "features"

    @override
    def source(self, side: Modality, material: TowerInputs) -> Tensor:
        tower = self.model.tower(side)

        def embed(number: int, places: list[int]) -> Embedding:
            parts = material.groups[number].take(places).parts(self.size)
            return torch.cat([part.through(tower, tower.encode) for part in parts])

        members = [group.items for group in material.groups]
        return collect(members, range(sum(map(len, members))), embed)

    @override
    def begin(self, draws: torch.Generator | None = None) -> None:
        embedding = self.model.image.encode(self.whole["image"].groups[0].take([0]).inputs)
        width = embedding.shape[-1]
        plain: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
        first = {
            side: torch.eye(width, **plain)
            if draws is None
            else torch.randn(width, width, generator=draws, **plain) / width**0.5
            for side in SIDES
        }
        self.maps = {side: nn.Parameter(first[side].to(embedding.device)) for side in SIDES}
        self.parameters = list(self.maps.values())

    @override
    def embed(self, side: Modality, source: Tensor, items: Sequence[int]) -> Embedding:
        return source[torch.tensor(items, device=source.device)] @ self.maps[side].T


class _Towers(Trainer):
    """What trains parts of the towers themselves, in a copy that is made once."""

    own: Model | None = None

    def begin(self, draws: torch.Generator | None = None) -> None:
        if self.own is None:
            self.own = copied(self.model)
            self.heads: list[nn.Parameter] = []
            self.parameters = self._chosen(self.own)
        with torch.no_grad():
            for one, original in zip(self.own.module.parameters(), self.model.module.parameters(), strict=True):
                one.copy_(original)
                one.grad = None
            for one in self.heads if draws is not None else ():
                one.copy_(one.flatten()[torch.randperm(one.numel(), generator=draws).to(one.device)].view_as(one))
        if draws is not None and not self.heads:
            raise BadOption("the heads of this model have no parameters that could be fresh: start must be trained")

    def _chosen(self, own: Model) -> list[nn.Parameter]:
        """The parameters to train: of each tower the head, its last blocks and, with ``whole``, the stem."""
        for one in own.module.parameters():
            one.requires_grad_(False)
        found: dict[int, nn.Parameter] = {}
        for side in SIDES:
            tower = own.tower(side)
            parts = stages(tower, self.whole[side].groups[0].inputs.item(0), tower.depth)
            some = parts if self.name == "whole" else parts[: 1 + self.blocks[side]]
            found |= {id(one): one for part in some for one in part.parameters}
            self.heads += parts[0].parameters
        for one in found.values():
            one.requires_grad_(True)
        return list(found.values())


class Last(_Towers):
    """The last blocks and the head of each tower; what enters these blocks is cached."""

    name = "last"

    @override
    def source(self, side: Modality, material: TowerInputs) -> Streams:
        tower = self.model.tower(side)
        return Streams.of(tower, material, tower.depth - self.blocks[side], self.size)

    @override
    def embed(self, side: Modality, source: Streams, items: Sequence[int]) -> Embedding:
        assert self.own is not None
        tower = self.own.tower(side)

        def embed(number: int, places: list[int]) -> Embedding:
            cut = replace(source.groups[number][1].take(places), tower=tower).cut(source.layer)
            return cut.rest(cut.hidden[None])[0]

        return collect([some for some, _ in source.groups], items, embed)


class Whole(_Towers):
    """All that makes the embeddings of both towers."""

    name = "whole"

    @override
    def source(self, side: Modality, material: TowerInputs) -> TowerInputs:
        return material

    @override
    def embed(self, side: Modality, source: TowerInputs, items: Sequence[int]) -> Embedding:
        assert self.own is not None
        tower = self.own.tower(side)

        def embed(number: int, places: list[int]) -> Embedding:
            return source.groups[number].take(places).through(tower, tower.run)

        return collect([group.items for group in source.groups], items, embed)


KINDS: dict[str, type[Trainer]] = {kind.name: kind for kind in (Features, Last, Whole)}


def trained_blocks(model: Model, side: Modality, blocks: int | None) -> int:
    """How many blocks the form ``last`` trains: a quarter of them, where it is left open."""
    depth = model.tower(side).depth
    if blocks is not None and blocks > depth:
        raise BadOption(f"blocks must lie in 1..{depth}, the blocks of this {side} tower (got {blocks})")
    return max(1, round(depth / 4)) if blocks is None else blocks
