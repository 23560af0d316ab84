"""Question 1: cascading parameter randomization (Adebayo et al., 2018).

The parameters of a copy of the model are randomized from the head down, and its maps are compared with those of the
original. A map that stays the same does not depend on what the model has learned.

The values of each parameter are permuted, which keeps their distribution. Each side has its own copy, in which only the
tower of that side is randomized.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from nibt.data.pair import Pair
from nibt.evaluation.finished import NOTHING_FINISHED, FinishedWork
from nibt.evaluation.maps import Map, maps, without_mean_states
from nibt.evaluation.shared import TRACES, KeptEmbeddings, SharedWork
from nibt.models.base import Inputs, Model, Tower
from nibt.registry import MethodSpec
from nibt.types import Modality


@dataclass(frozen=True)
class Stage:
    """Parameters that are randomized together."""

    name: str
    parameters: tuple[nn.Parameter, ...]


def copied(model: Model) -> Model:
    """Return a deep copy of a model."""
    with model.image.lock, model.text.lock:
        return deepcopy(model)


def stages(tower: Tower, inputs: Inputs, most_groups: int) -> list[Stage]:
    """Return the stages of a tower: the head, the blocks from the last to the first, and the stem."""
    tower.check_states("a check with random weights")
    blocks = [list(block.parameters()) for block in tower.blocks]
    in_blocks = {id(parameter) for block in blocks for parameter in block}
    with _differentiable(tower.root) as parameters:
        cut = tower.trace(inputs).cut(tower.depth)
        output = cut.rest(cut.hidden[None])
        head = [parameter for parameter in _used(output, parameters) if id(parameter) not in in_blocks]
        with tower.computing():  # weights of several types, of which the model itself may not compute
            embedding = tower.run(inputs)
        used = _used(embedding, parameters)

    assigned = in_blocks | {id(parameter) for parameter in head}
    stem = [parameter for parameter in used if id(parameter) not in assigned]
    groups = min(most_groups, tower.depth)
    edges = [round(tower.depth * (groups - step) / groups) for step in range(groups + 1)]
    result = [Stage("head", tuple(head))]
    for top, bottom in pairwise(edges):
        name = f"block {bottom}" if top - bottom == 1 else f"blocks {bottom}-{top - 1}"
        # from the last block down, so that random weights do not depend on the number of groups
        from_last = reversed(blocks[bottom:top])
        result.append(Stage(name, tuple(parameter for block in from_last for parameter in block)))

    return [*result, Stage("stem", tuple(stem))]


def cascade(
    model: Model,
    pairs: Sequence[Pair],
    methods: Sequence[MethodSpec],
    side: Modality,
    seed: int,
    most_groups: int,
    batch_size: int,
    unchanged: Mapping[str, list[Map]] | None = None,
    finished: FinishedWork = NOTHING_FINISHED,
    shared: SharedWork | None = None,
) -> Iterator[tuple[str, dict[str, list[Map]]]]:
    """Yield each stage, "nothing" first, with the maps after all stages so far; mean states become ``blank``.

    The embeddings of the other side, whose tower stays as it is, and the traces without random weights are those of
    ``shared``. The traces of a stage serve all methods.
    """
    shared = shared or SharedWork(model, KeptEmbeddings(model), 0)
    model = copied(model)
    tower = model.tower(side)
    generator = torch.Generator().manual_seed(seed)
    item = pairs[0].image if side == "image" else pairs[0].caption
    shuffled: set[int] = set()
    adapted = {str(method): without_mean_states(model, method, side) for method in methods}
    same = [str(method) for method in methods if adapted[str(method)] == method]
    known = {name: unchanged[name] for name in same} if unchanged else {}
    for stage in [Stage("nothing", ()), *stages(tower, tower.prepare([item]), most_groups)]:
        _randomize(model, stage, shuffled, generator)
        reused = {} if shuffled else known
        by_method: dict[str, list[Map]] = {}
        of_stage = SharedWork(model, shared.embeddings, TRACES if len(methods) > 1 else 0) if shuffled else shared
        for name, method in adapted.items():
            compute = partial(maps, of_stage.model, pairs, method, side, seed, batch_size, of_stage)
            stage_name = f"{name} {side} random down to {stage.name}"
            by_method[name] = reused[name] if name in reused else finished.maps(stage_name, compute)
        yield stage.name, by_method


def randomized(model: Model, pair: Pair, seed: int) -> Model:
    """Return a copy of a model in which the whole image tower is randomized."""
    model = copied(model)
    generator = torch.Generator().manual_seed(seed)
    shuffled = set[int]()
    for stage in stages(model.image, model.image.prepare([pair.image]), 1):
        _randomize(model, stage, shuffled, generator)
    return model


def _randomize(model: Model, stage: Stage, shuffled: set[int], generator: torch.Generator) -> None:
    """Shuffle the parameters of a stage that are not yet shuffled, since blocks may share weights."""
    for parameter in stage.parameters:
        if id(parameter) not in shuffled:
            shuffle(parameter, generator)
            shuffled.add(id(parameter))
    model.renewed()


def shuffle(parameter: Tensor, generator: torch.Generator) -> None:
    """Shuffle the values of a parameter."""
    order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
    with torch.no_grad():
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


@contextmanager
def _differentiable(module: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Let all floating-point parameters of a module require gradients, and yield them."""
    parameters = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield parameters
    finally:
        for parameter, required in zip(parameters, before, strict=True):
            parameter.requires_grad_(required)


def _used(output: Tensor, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters that an output depends on."""
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
