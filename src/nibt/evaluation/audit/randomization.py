"""Question 1: cascading parameter randomization (Adebayo et al., 2018).

The parameters of a copy of the model become random, from the head down, and its maps are compared with the original's.
A map that stays the same does not show what the model has learned.

Each parameter of a stage is permuted, so it keeps its values and therefore its scale. The copy is new for each side;
only the tower of that side becomes random.
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
    """Parameters that become random together, with the name of the stage."""

    name: str
    parameters: tuple[nn.Parameter, ...]


def copied(model: Model) -> Model:
    """Return a deep copy of a model; the caller's is not changed."""
    with model.image.lock, model.text.lock:
        return deepcopy(model)


def stages(tower: Tower, inputs: Inputs, most_groups: int) -> list[Stage]:
    """Return the head, the blocks from the last to the first in at most ``most_groups`` groups, and the stem."""
    blocks = [list(block.parameters()) for block in tower.blocks]
    in_blocks = {id(one) for block in blocks for one in block}
    with _differentiable(tower.root) as every:
        cut = tower.trace(inputs).cut(tower.depth)
        head = [one for one in _used(cut.rest(cut.hidden[None]), every) if id(one) not in in_blocks]
        used = _used(tower.run(inputs), every)
    known = in_blocks | {id(one) for one in head}
    stem = [one for one in used if id(one) not in known]
    groups = min(most_groups, tower.depth)
    edges = [round(tower.depth * (groups - step) / groups) for step in range(groups + 1)]
    result = [Stage("head", tuple(head))]
    for top, bottom in pairwise(edges):
        name = f"block {bottom}" if top - bottom == 1 else f"blocks {bottom}-{top - 1}"
        result.append(Stage(name, tuple(one for block in blocks[bottom:top] for one in block)))
    return [*result, Stage("stem", tuple(stem))]


def cascade(
    model: Model,
    pairs: Sequence[Pair],
    methods: Sequence[MethodSpec],
    side: Modality,
    seed: int,
    most_groups: int,
    batch_size: int,
) -> Iterator[tuple[str, dict[str, list[Map]]]]:
    """Yield the name of each stage and the maps of each method once that stage and all before it are random.

    The first stage is "nothing". If a method's baseline is a mean state, ``blank`` replaces it in all stages, since
    mean states belong to the learned weights.
    """
    model = copied(model)
    tower, generator = model.tower(side), torch.Generator().manual_seed(seed)
    item = pairs[0].image if side == "image" else pairs[0].caption
    shuffled: set[int] = set()
    adapted = {str(method): without_mean_states(model, method, side) for method in methods}
    for stage in [Stage("nothing", ()), *stages(tower, tower.prepare([item]), most_groups)]:
        for parameter in stage.parameters:
            if id(parameter) not in shuffled:  # blocks may share weights
                _shuffle(parameter, generator)
                shuffled.add(id(parameter))
        yield (
            stage.name,
            {name: maps(model, pairs, method, side, seed, batch_size) for name, method in adapted.items()},
        )


def _shuffle(parameter: Tensor, generator: torch.Generator) -> None:
    order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
    with torch.no_grad():
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


class _differentiable:
    """A context in which all floating-point parameters of a module, which it returns, require gradients."""

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


def _used(output: Tensor, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters that an output depends on."""
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return [one for one, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
