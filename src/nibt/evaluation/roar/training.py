"""Trainers of ROAR: linear maps on cached embeddings, the last blocks, or both towers; and their training.

Each trainer trains a copy in evaluation mode (no dropout, fixed statistics of batch norms) with the logit scale of the
model, and CLIP's symmetric contrastive loss (Radford et al., 2021). The model itself is not trained.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nibt.data.pair import Pair
from nibt.errors import BadOption
from nibt.evaluation.audit.randomization import copied, shuffle, stages
from nibt.evaluation.roar.inputs import TowerInputs, collect, traced
from nibt.evaluation.roar.settings import Settings
from nibt.methods.base import SIDES
from nibt.models._tower import Trace
from nibt.models.base import Model
from nibt.options import Keywords
from nibt.types import Embedding, Modality


class Trainer(ABC):
    """Base class of trainers."""

    name: ClassVar[str]

    def __init__(self, model: Model, inputs: Mapping[Modality, TowerInputs], blocks: int | None, size: int) -> None:
        self.model = model
        self.inputs_by_side = inputs
        self.size = size
        self.blocks = {side: trained_blocks(model, side, blocks) for side in SIDES}
        self.parameters: list[nn.Parameter] = []
        self.begin()

    @abstractmethod
    def source(self, side: Modality, inputs: TowerInputs) -> Any:
        """Compute the data of one side that training needs, with the original weights and without a graph."""

    @abstractmethod
    def begin(self, draws: torch.Generator | None = None) -> None:
        """Reset the parameters to the start of training."""

    @abstractmethod
    def embed(self, side: Modality, source: Any, items: Sequence[int]) -> Embedding:
        """Compute the embeddings of items, differentiable with respect to the parameters."""

    @property
    def count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)


class Features(Trainer):
    """A trainer of a linear map on the cached embeddings of each side, as if it were the last projection."""

    name = "features"

    def source(self, side: Modality, inputs: TowerInputs) -> Tensor:
        tower = self.model.tower(side)

        def embed(number: int, places: list[int]) -> Embedding:
            batches = inputs.groups[number].take(places).batches(self.size)
            return torch.cat([batch.apply(tower, tower.encode) for batch in batches])

        members = [group.items for group in inputs.groups]
        return collect(members, range(sum(map(len, members))), embed)

    def begin(self, draws: torch.Generator | None = None) -> None:
        embedding = self.model.image.encode(self.inputs_by_side["image"].groups[0].take([0]).inputs)
        width = embedding.shape[-1]
        plain: Keywords = {"dtype": torch.float32, "device": "cpu"}
        first = {
            side: torch.eye(width, **plain)
            if draws is None
            else torch.randn(width, width, generator=draws, **plain) / width**0.5
            for side in SIDES
        }
        self.maps = {side: nn.Parameter(first[side].to(embedding.device)) for side in SIDES}
        self.parameters = list(self.maps.values())

    def embed(self, side: Modality, source: Tensor, items: Sequence[int]) -> Embedding:
        return source[torch.tensor(items, device=source.device)] @ self.maps[side].T


class _Towers(Trainer):
    """Base class of trainers of parts of the towers, in a copy that is created once."""

    copy: Model | None = None

    def begin(self, draws: torch.Generator | None = None) -> None:
        if self.copy is None:
            self.copy = copied(self.model)
            self.heads: list[nn.Parameter] = []
            self.parameters = self._trained_parameters(self.copy)

        with torch.no_grad():
            parameters = zip(self.copy.module.parameters(), self.model.module.parameters(), strict=True)
            for parameter, original in parameters:
                parameter.copy_(original)
                parameter.grad = None

        if draws is not None:
            if not self.heads:
                raise BadOption("init must be trained for this model, whose heads have no parameters (got fresh)")
            for head in self.heads:
                shuffle(head, draws)

    def _trained_parameters(self, copy: Model) -> list[nn.Parameter]:
        """Return the parameters to train: the head of each tower, its last blocks and, for ``whole``, the stem."""
        copy.module.requires_grad_(False)
        parameters: dict[int, nn.Parameter] = {}
        for side in SIDES:
            tower = copy.tower(side)
            tower_stages = stages(tower, self.inputs_by_side[side].groups[0].inputs.take([0]), tower.depth)
            trained = tower_stages if self.name == "whole" else tower_stages[: 1 + self.blocks[side]]
            parameters |= {id(parameter): parameter for stage in trained for parameter in stage.parameters}
            self.heads += tower_stages[0].parameters

        for parameter in parameters.values():
            parameter.requires_grad_(True)
        return list(parameters.values())


class Last(_Towers):
    """A trainer of the last blocks and the head of each tower, with cached hidden states before these blocks."""

    name = "last"

    def source(self, side: Modality, inputs: TowerInputs) -> list[tuple[tuple[int, ...], Trace]]:
        tower = self.model.tower(side)
        layer = tower.depth - self.blocks[side]
        return [(group.items, traced(tower, group, layer, self.size)) for group in inputs.groups]

    def embed(self, side: Modality, source: list[tuple[tuple[int, ...], Trace]], items: Sequence[int]) -> Embedding:
        assert self.copy is not None
        tower = self.copy.tower(side)

        def embed(number: int, places: list[int]) -> Embedding:
            cut = replace(source[number][1].take(places), tower=tower).cut(tower.depth - self.blocks[side])
            return cut.rest(cut.hidden[None])[0]

        return collect([members for members, _ in source], items, embed)


class Whole(_Towers):
    """A trainer of all parameters that the embeddings of both towers depend on."""

    name = "whole"

    def source(self, side: Modality, inputs: TowerInputs) -> TowerInputs:
        return inputs

    def embed(self, side: Modality, source: TowerInputs, items: Sequence[int]) -> Embedding:
        assert self.copy is not None
        tower = self.copy.tower(side)

        def embed(number: int, places: list[int]) -> Embedding:
            return source.groups[number].take(places).apply(tower, tower.run)

        return collect([group.items for group in source.groups], items, embed)


TRAINERS: dict[str, type[Trainer]] = {trainer.name: trainer for trainer in (Features, Last, Whole)}


def trained_blocks(model: Model, side: Modality, blocks: int | None) -> int:
    """Return the number of blocks of a tower that "last" trains: a quarter of them by default."""
    depth = model.tower(side).depth
    if blocks is not None and blocks > depth:
        raise BadOption(f"blocks must be between 1 and {depth}, the blocks of this {side} tower (got {blocks})")
    return max(1, round(depth / 4)) if blocks is None else blocks


Sources = dict[Modality, Any]
_SPLIT = 0
_ORDER = 1
_START = 2


def fitting(pairs: Sequence[Pair]) -> Bool[np.ndarray, "image caption"]:
    """Return which captions of other pairs also fit an image, so that they are not negatives of it.

    They equal its caption up to case and spaces, are of the same image, or name only objects that are in the image.
    """
    captions = np.array([" ".join(pair.caption.split()).casefold() for pair in pairs])
    pixels = np.array([hash((pair.image.size, pair.image.pil_image.tobytes())) for pair in pairs])
    same = (captions[:, None] == captions) | (pixels[:, None] == pixels)
    present = [{item.name for item in pair.objects} for pair in pairs]
    named = [{item.name for item in pair.objects if item.spans} if not pair.absent else set() for pair in pairs]
    fits = np.array([[bool(names) and names <= objects for names in named] for objects in present])
    return (same | fits) & ~np.eye(len(pairs), dtype=bool)


def split(count: int, settings: Settings, repeat: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices of the training pairs and of the validation pairs."""
    order = np.random.default_rng((settings.seed, repeat, _SPLIT)).permutation(count)
    edge = max(2, round(count * settings.validation / 100))
    return np.sort(order[edge:]), np.sort(order[:edge])


def losses(
    image: Float[Tensor, "pair dim"], text: Float[Tensor, "pair dim"], scale: float, fits: Bool[Tensor, "pair pair"]
) -> Float[Tensor, " pair"]:
    """Return the loss of each pair: the mean of the cross-entropies over captions and over images."""
    cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    logits = (scale * cosines).masked_fill(fits, -torch.inf)
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels, reduction="none") + F.cross_entropy(logits.T, labels, reduction="none")) / 2


def trained(
    trainer: Trainer, reduced: Sources, untouched: Sources, fits: np.ndarray, settings: Settings, repeat: int
) -> list[float]:
    """Train, and return the losses of the untouched validation pairs."""
    train, check = split(len(fits), settings, repeat)
    trainer.begin(_fresh(settings, repeat))
    optimizer = torch.optim.Adam(trainer.parameters, lr=settings.learning_rates[trainer.name])
    with torch.enable_grad():
        draws = np.random.default_rng((settings.seed, repeat, _ORDER))  # the same for all trainings of a repeat
        for _ in range(settings.epochs):
            for rows in np.array_split(draws.permutation(train), -(-len(train) // settings.batch_size)):
                optimizer.zero_grad()
                _losses(trainer, reduced, rows=rows, fits=fits, size=len(rows)).mean().backward()
                optimizer.step()

    with torch.no_grad():
        result = _losses(trainer, untouched, rows=check, fits=fits, size=settings.batch_size).tolist()
    if not np.isfinite(result).all():
        raise BadOption(
            f"training {trainer.name} diverged (its loss is not finite): choose a smaller learning rate "
            f"than {settings.learning_rates[trainer.name]:g}"
        )
    return result


def _fresh(settings: Settings, repeat: int) -> torch.Generator | None:
    """Return the generator of untrained heads, if training starts from them: the same for all trainings of a repeat."""
    if settings.init != "fresh":
        return None
    seed = np.random.default_rng((settings.seed, repeat, _START)).integers(2**62)
    return torch.Generator().manual_seed(int(seed))


def _losses(
    trainer: Trainer, sources: Sources, rows: np.ndarray, fits: np.ndarray, size: int
) -> Float[Tensor, " pair"]:
    """Return the losses of pairs as a single batch, whose embeddings are computed in batches of a size."""
    batches = np.array_split(rows, -(-len(rows) // max(size, 2)))
    image, text = (
        torch.cat([trainer.embed(side, sources[side], batch.tolist()) for batch in batches]) for side in SIDES
    )
    return losses(image, text, trainer.model.scale, torch.from_numpy(fits[np.ix_(rows, rows)]).to(image.device))
