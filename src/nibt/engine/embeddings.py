"""One picture, or one caption, held against many embeddings of the other side: its path is walked once."""

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.images import ImageSource, read_image
from nibt.data.pair import Caption, modality, read_caption
from nibt.data.units import special_share
from nibt.engine.jacobians import PathIntegral, change, narrowed, path_summary, scores
from nibt.engine.spec import Contrast, baseline_by_side, resolve
from nibt.errors import BadInput
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.results.attribution import Attribution
from nibt.torch_modes import plain_torch


@plain_torch()
def explain_embeddings(
    model: Model | str | Path | nn.Module,
    thing: ImageSource | Caption,
    embeddings: Tensor,
    *,
    variant: str = "default",
    **options: Any,
) -> Attribution:
    """NIB's maps of one picture for many captions, or of one caption for many pictures: embeddings, (many, dim).

    Equal to the picture's (the caption's) side of ``explain``, with the target cosine, to 1e-5: a batch of maps, one
    for each embedding, of which only the direction counts. The states on the path go through once; then comes a
    backward pass for each embedding, or a forward pass for each token, whichever are fewer. Options and variants are
    those of the method ``nib``.

    Raises:
        BadInput: the picture or the caption cannot be read, or the embeddings have another shape, NaN, or no length.
        UnknownName: no variant or option has that name.
        BadOption: an option has a value that it cannot have.

    """
    model = load_model(model)
    item = read_caption(thing) if isinstance(thing, Caption) else read_image(thing)
    side = modality(item)
    question = resolve(model, "nib", "cosine", variant, Contrast(), None, None, baseline_by_side(options, [side]))
    method, tower = question.narrowed(side), model.tower(side)
    trace = tower.trace(tower.prepare([item]), min(method.layer))
    aim = _checked(embeddings, trace.embedding)
    one = Side(model, trace, lambda embedding: embedding.norm(dim=-1))  # no score is asked for
    layers = narrowed(one, method)
    found = PathIntegral.mean([scores(layer, aim, aim @ layer.change) for layer in layers])
    after = F.normalize(trace.embedding, dim=-1)[0]
    before = after - change(layers)
    told = path_summary(
        aim,
        after,
        before,
        found.values.sum(-1),
        method.reference,
        method.rule,
        method.layer,
        found.steps,
        method.tolerance,
    )
    units = tower.units(trace.inputs.take([0] * len(aim)), trace.cut(method.layer[0]).hidden.expand(len(aim), -1, -1))
    return Attribution(units.keep(found.values), units, special_share(found.values, units), told)


def _checked(embeddings: Tensor, like: Tensor) -> Float[Tensor, "many dim"]:
    if embeddings.ndim != 2 or embeddings.shape[1] != like.shape[1] or not len(embeddings):
        raise BadInput(f"embeddings must have the shape (many, {like.shape[1]}) (got {tuple(embeddings.shape)})")
    lengths = embeddings.norm(dim=-1)
    if not (lengths.isfinite() & (lengths > 0)).all():
        raise BadInput("an embedding must have a direction: one of these is zero, infinite or NaN")
    return F.normalize(embeddings.to(like), dim=-1)
