"""Parameter randomisation (Adebayo et al., 2018): a copy of the model loses what it has learned, from the head down,
and its maps are held against the original's. A map that stays as it was does not show what the model has learned.

Every parameter of a stage is shuffled: it keeps its values, and so its scale, but none in its place. The copy is made
anew for each side, of which one tower becomes random while the other stays.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from nibt.data.pair import Pair
from nibt.evaluation.maps import Map, maps, without_mean_states
from nibt.methods.base import MethodSpec
from nibt.models.base import Inputs, Model, Tower
from nibt.types import Modality


@dataclass(frozen=True)
class Stage:
    """Parameters that become random together, and what they are called."""

    name: str
    parameters: tuple[nn.Parameter, ...]


def copied(model: Model) -> Model:
    """A model of its own, with the same weights; the caller's is left alone."""
    with model.image.lock, model.text.lock:
        return deepcopy(model)


def stages(tower: Tower, inputs: Inputs, most: int) -> list[Stage]:
    """The head, the blocks from the last to the first in at most so many groups, and the stem."""
    blocks = [list(block.parameters()) for block in tower.blocks]
    in_blocks = {id(one) for block in blocks for one in block}
    with _differentiable(tower.root) as every:
        cut = tower.trace(inputs).cut(tower.depth)
        head = [one for one in _used(cut.rest(cut.hidden[None]), every) if id(one) not in in_blocks]
        used = _used(tower.run(inputs), every)
    known = in_blocks | {id(one) for one in head}
    stem = [one for one in used if id(one) not in known]
    groups = min(most, tower.depth)
    edges = [round(tower.depth * (groups - step) / groups) for step in range(groups + 1)]
    found = [Stage("head", tuple(head))]
    for top, bottom in pairwise(edges):
        name = f"block {bottom}" if top - bottom == 1 else f"blocks {bottom}-{top - 1}"
        found.append(Stage(name, tuple(one for block in blocks[bottom:top] for one in block)))
    return [*found, Stage("stem", tuple(stem))]


def cascade(
    model: Model,
    pairs: Sequence[Pair],
    methods: Sequence[MethodSpec],
    side: Modality,
    seed: int,
    most: int,
    batch_size: int,
) -> Iterator[tuple[str, dict[str, list[Map]]]]:
    """The name of what has become random, in addition to all before it, and the maps of each method; first of nothing.

    Where a method narrows toward mean states, ``blank`` stands for them throughout: they belong to the learned weights.
    """
    model = copied(model)
    tower, generator = model.tower(side), torch.Generator().manual_seed(seed)
    item = pairs[0].image if side == "image" else pairs[0].caption
    done: set[int] = set()
    adapted = {str(asked): without_mean_states(model, asked, side) for asked in methods}
    for stage in [Stage("nothing", ()), *stages(tower, tower.prepare([item]), most)]:
        for parameter in stage.parameters:
            if id(parameter) not in done:  # blocks may share weights
                _shuffle(parameter, generator)
                done.add(id(parameter))
        yield (
            stage.name,
            {name: maps(model, pairs, asked, side, seed, batch_size) for name, asked in adapted.items()},
        )


def _shuffle(parameter: Tensor, generator: torch.Generator) -> None:
    order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
    with torch.no_grad():
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


class _differentiable:
    """Inside, all parameters of a module take gradients; given are those that are numbers."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = [one for one in module.parameters() if one.is_floating_point()]
        self.before = [one.requires_grad for one in self.parameters]

    def __enter__(self) -> list[nn.Parameter]:
        for one in self.parameters:
            one.requires_grad_(True)
        self.grad = torch.enable_grad()
        self.grad.__enter__()
        return self.parameters

    def __exit__(self, *error: object) -> None:
        self.grad.__exit__(None, None, None)
        for one, before in zip(self.parameters, self.before, strict=True):
            one.requires_grad_(before)


def _used(answer: Tensor, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that an answer was made with."""
    found = torch.autograd.grad(answer.sum(), parameters, allow_unused=True)
    return [one for one, gradient in zip(parameters, found, strict=True) if gradient is not None]
