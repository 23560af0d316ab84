"""Checks of a model that was loaded: its weights are finite, and its cut gives what the model gives."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from nibt.data.images import ImageInput
from nibt.errors import CannotLoad
from nibt.models._failures import loading, step
from nibt.models._inputs import Inputs
from nibt.models._placement import check_placement
from nibt.models._precision import state_of
from nibt.models._tower import Trace
from nibt.models.base import ImageTower, Model, Tower
from nibt.progress import report_stage
from nibt.torch_modes import foreign_hooks, set_hook

_LEAST_LENGTH = 1e-12  # below it, PyTorch gives no unit vector
_LEAST_COSINE = 0.99999  # of a replayed embedding: rounding differs between two rows and four


def check_finite(name: str, module: nn.Module) -> None:
    """Check that all weights are finite."""
    for key, tensor in state_of(module).items():
        # causal masks are infinite, and are buffers outside the state dict
        tensor = tensor.float() if tensor.itemsize == 1 else tensor  # PyTorch has no isfinite of 8 bits
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CannotLoad(f"the model {name!r} has NaN or infinite weights in {key!r}: the checkpoint is broken")


def seeded_noise() -> Image.Image:
    """Return the image on which models are checked."""
    draws = torch.Generator("cpu").manual_seed(0)
    return Image.fromarray(torch.randint(0, 256, (64, 96, 3), generator=draws, dtype=torch.uint8, device="cpu").numpy())


@contextmanager
def naming_hooks(module: nn.Module) -> Iterator[None]:
    """Name the first part with a forward hook of the user in errors of a check, of which it may be the cause."""
    try:
        yield
    except CannotLoad as error:
        hooked = [name or "the model" for name, part in module.named_modules() if foreign_hooks(part)]
        if not hooked:
            raise
        raise CannotLoad(
            f"{error}; the forward hook on {hooked[0]} may be the cause: correct it, or remove it"
        ) from error


def checked(model: Model) -> Model:
    """Compare the embeddings of the cut and the uncut model on a seeded image and two captions, at three layers."""
    report_stage("checking its towers")
    image = ImageInput(seeded_noise(), "seeded noise")
    ran = set[nn.Module]()
    problem = "it cannot embed an example image and a caption"
    remedy = "check its configuration and the files of its processor, or save both again"
    embedding = step(model.id, problem, remedy, [type(tower) for tower in model.towers])
    with naming_hooks(model.module), loading(model.id), embedding, ExitStack() as hooks:
        # a hook of the user around the blocks, as on the whole model, acts only if the tower runs that module
        blocks = {block for tower in model.towers for block in tower.blocks}
        hooked = filter(foreign_hooks, model.module.modules())
        around = [module for module in hooked if not blocks.isdisjoint(module.modules())]
        for module in around:
            hooks.enter_context(set_hook(module.register_forward_pre_hook, lambda module, _: ran.add(module)))

        tower = _small(model.image)
        image_size = _compare(model.id, tower, tower.prepare([image, image]))
        check_placement(model.id, tower, image.pil_image, lambda picture: tower.prepare([picture]))

        captions = model.text.prepare(model.text.examples)
        caption_size = _compare(model.id, model.text, captions)

        if model.is_fused:
            _check_scores(model, tower.prepare([image]), captions)
        elif image_size != caption_size:
            raise CannotLoad(
                f"the model {model.id!r} embeds images in {image_size} dimensions and captions in {caption_size}, so "
                "they cannot be compared: correct its configuration"
            )

    unused = [type(module).__name__ for module in around if module not in ran]
    if unused:
        raise CannotLoad(
            f"the model {model.id!r} has a forward hook or another forward on its {unused[0]}, which does not run, "
            "since each tower runs alone: remove it, or set it on parts of the towers"
        )

    model.renewed().kept["checked"] = True
    return model


def _check_scores(model: Model, image: Inputs, captions: Inputs) -> None:
    """Check that a model which reads both sides in one network gives an image and two captions finite scores."""
    scores = model.similarity(model.image.encode(image), model.text.encode(captions))
    if not scores.isfinite().all():
        raise CannotLoad(
            f"the model {model.id!r} cannot be explained: it gives an image and two captions the scores "
            f"{scores.tolist()}: check its weights"
        )


def _small(tower: ImageTower) -> ImageTower:
    """Return the tower with a small input size if it takes any size, which makes the check faster."""
    preparation = getattr(tower, "preparation", None)
    if preparation is None or preparation.resize.way != "whole":
        return tower

    small = copy(tower)
    side = 4 * preparation.resize.multiple
    small.preparation = replace(preparation, resize=replace(preparation.resize, height=side, width=side))
    return small


def _compare(name: str, tower: Tower, inputs: Inputs) -> int:
    """Compare embeddings that are replayed from three layers with that of the model, and return their dimensions."""
    trace = tower.trace(inputs)
    for length in trace.embedding.flatten(1).norm(dim=-1).tolist():
        if not _LEAST_LENGTH < length < math.inf:  # also fails for NaN
            raise CannotLoad(
                f"the model {name!r} cannot be explained: its {tower.modality} tower gives an embedding of the length "
                f"{length}, which has no direction: check its weights"
            )

    # without blocks there is nothing to replay, and rounding in millions of pixels would be taken for a difference
    replayed = {}
    if tower.blocks:
        _check_valid_tokens(name, tower, trace)
        replayed = replay_cosines(tower, trace)
    for layer, cosine in replayed.items():
        if not cosine > _LEAST_COSINE:  # also fails for NaN
            raise CannotLoad(
                f"the model {name!r} cannot be cut: replayed from layer {layer} of {tower.depth}, its {tower.modality} "
                f"tower gives another embedding than the uncut model (cosine {cosine:.6f}, must be above "
                f"{_LEAST_COSINE})"
            )

    return trace.embedding.shape[-1]


def _check_valid_tokens(name: str, tower: Tower, trace: Trace) -> None:
    """Check that a tower has a mask of all tokens of its states, of which another package may have a class."""
    hidden = trace.cut(0).hidden
    valid = tower.valid_tokens(trace.inputs, hidden)
    shape = tuple(hidden.shape[:2])
    if tuple(valid.shape) != shape or valid.dtype != torch.bool:
        raise CannotLoad(
            f"the model {name!r} cannot be explained: valid_tokens of {type(tower).__name__} must return a mask of the "
            f"shape (batch, token), here {shape}, of the type bool (got {tuple(valid.shape)}, {valid.dtype}): correct "
            "it"
        )


def replay_cosines(tower: Tower, trace: Trace) -> dict[int, float]:
    """Return the least cosine between the embedding of a tower and that of the tower cut at each of three layers."""
    cosines = {}
    for layer in sorted({0, tower.depth // 2, tower.depth}):
        cut = trace.cut(layer)
        with torch.no_grad():  # two states of each item, for which the inputs of the blocks are repeated
            replayed = cut.rest(torch.stack([cut.hidden, cut.hidden]))
        cosines[layer] = F.cosine_similarity(replayed.flatten(2), trace.embedding.flatten(1), dim=-1).min().item()

    return cosines
