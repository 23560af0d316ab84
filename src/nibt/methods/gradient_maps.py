"""Methods that weight states or values by one gradient: Grad-CAM and Grad-ECLIP."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid, Units
from nibt.errors import Unsupported
from nibt.methods._attention import AttentionMethod, gradients
from nibt.methods._path import GradientMethod
from nibt.methods.base import both_sides
from nibt.models._attention import AttentionMap, AttentionRecord, AttentionReplacer, record_attentions, with_attention
from nibt.models._tower import first
from nibt.options import Either
from nibt.results.pixels import min_max
from nibt.types import Hidden, PerToken

_LAYER = {"layer": 0.75}


@dataclass(frozen=True)
class GradCAM(GradientMethod, name="grad_cam"):
    r"""Grad-CAM on a hidden layer (Selvaraju et al., ICCV 2017, arXiv 1610.02391).

    $$\text{score}_t = \text{relu}(\sum_c h_{tc} \, \partial S / \partial h_{tc})$$

    Zhu et al. (ICLR 2025) compare NIB with this form. In the variant ``textbook``, $w_c$ is the mean of the gradient
    over the patches or words:

    $$\text{score}_t = \text{relu}(\sum_c w_c h_{tc})$$

    On a convolutional trunk, the default layer is the last feature map, as published.

    Shows:
        Which tokens of a late layer raise the target, to first order.

    Use it when:
        You explain a convolutional tower, or compare with published Grad-CAM maps. Use the variant ``textbook`` for
        these.

    Avoid it when:
        You explain a transformer: use ``nib``, or set ``along_path=true``, which averages the scores along NIB's path.
        With it, pointing on 1,000 scenes is 0.79 instead of 0.38, for 7 forward passes instead of 1.5. A map of zeros
        means that no token of the layer raises the target.

    Args:
        weights: ``token`` weights the state of each token by the gradient of this token, ``pooled`` by the mean
            gradient of the patches or words.
    """

    paper = "Selvaraju et al., ICCV 2017, arXiv 1610.02391"
    category = "gradient"
    cost = "1 + about 3 x (1 - layer / depth)"
    signed = False
    layer_leaves_block = True
    variants: ClassVar = both_sides(default=_LAYER, paper=_LAYER, textbook={**_LAYER, "weights": "pooled"})

    weights: Annotated[str, Either(("token", "pooled"))] = "token"

    def scores(self, difference: Hidden, gradient: Hidden, units: Units) -> PerToken:
        weights = gradient if self.weights == "token" else _pooled(gradient, units)
        return (difference * weights).sum(-1).relu()


def _pooled(gradient: Hidden, units: Units) -> Float[Tensor, "batch 1 width"]:
    """Compute the mean gradient of each channel over the rows that stand for a unit."""
    if isinstance(units, Grid):
        return gradient[:, list(units.tokens)].mean(1, keepdim=True)
    explained = units.explained.to(gradient)[..., None]
    return ((gradient * explained).sum(1) / explained.sum(1))[:, None]


@dataclass(frozen=True)
class GradECLIP(AttentionMethod, name="grad_eclip"):
    r"""Grad-ECLIP on the last attention (Zhao et al., ICML 2024, arXiv 2502.18816).

    $$\text{score}_t = \text{relu}(l_t \sum_d v_{td} \, \partial S / \partial o_{id})$$

    $o$ is the output of the attention before its projection, and $v$ are its values; $d$ runs over the channels of all
    heads. $l_t$ is the cosine of the query $q_i$ and the key $k_t$, scaled so that it is 0 for the least similar and 1
    for the most similar key among the tokens that row $i$ attends to.

    The variant ``authors`` computes what the authors' program computes, with the same formula, but other terms. The
    last attention is computed as if it had one head with all channels: its weights are the softmax of the products of
    all channels of $q$ and $k$, divided by the square root of their number. $o$ is the output of this attention, and
    $S$ and its gradient are those that follow from it. $l_t$ is the cosine of $W q_i + b$ and $W k_t + b$, where $W$
    and $b$ are those of the output projection, scaled to [0, 1] over the patches (in captions, over all tokens that are
    no padding). The model has several heads, so these maps explain a computation that the model does not do (Cui and
    Fan, 2026, arXiv 2605.12952).

    Shows:
        Which tokens raise the target through their values in the last attention, weighted by how similar their keys are
        to the query.

    Use it when:
        You compare with the published Grad-ECLIP, or want a cheap map of an image.

    Avoid it when:
        You explain words: on 1,000 scenes, its AUC of words is 0.43 [0.41, 0.44], below that of random scores (0.50
        [0.48, 0.53]).

    Args:
        heads: ``all`` uses the heads of the model, ``joined`` one head with all their channels.
    """

    paper = "Zhao et al., ICML 2024, arXiv 2502.18816"
    category = "attention"
    cost = "1 + about 3 / depth"
    signed = False
    uses_gradients = True
    variants: ClassVar = both_sides(default={}, paper={}, authors={"heads": "joined"})

    heads: Annotated[str, Either(("all", "joined"))] = "all"

    def cost_formula(self) -> str:
        return self.cost if self.heads == "all" else "1 + about 8 / depth"

    def scores(self, side: Side) -> PerToken:
        attentions = record_attentions(side.trace, side.tower.depth - 1)
        if self.heads == "joined":
            if attentions.pooling is not None:
                raise Unsupported(
                    f"heads must be all for a {type(side.tower).__name__}, whose head pools by attention: the authors' "
                    "program reads a class or an end token"
                )
            channel = _joined_channels(side)
            return attentions.read_by_head((channel * _projected_looseness(side)).relu())

        (gradient,) = gradients(side, attentions, [attentions.last.output])
        channel = _joined(gradient) @ _joined(attentions.last.value).mT
        query, key = (F.normalize(_joined(heads), dim=-1) for heads in (attentions.last.query, attentions.last.key))
        looseness = min_max(query @ key.mT, (attentions.last.weights > 0).any(1))
        return attentions.read_by_head((channel * looseness).relu())


def _joined_channels(side: Side) -> AttentionMap:
    """Compute the product of each value with the gradient at each output of the last attention with one head."""
    tower = side.tower
    trace = side.trace
    args, kwargs = trace.calls[-1]
    stream = trace.streams[tower.depth - 1]
    assert stream is not None
    seen: list[tuple[Tensor, Tensor]] = []

    def attend(record: AttentionRecord) -> Tensor:
        query, key, value = (_joined(tensor) for tensor in (record.query, record.key, record.value))
        logits = (query @ key.mT).float() * query.shape[-1] ** -0.5
        hidden = ~(record.weights > 0).any(1)
        weights = logits.masked_fill(hidden, torch.finfo(logits.dtype).min).softmax(-1)
        output = weights.to(value) @ value
        seen.append((value, output))
        return output.unflatten(-1, (record.value.shape[1], -1)).transpose(1, 2)

    with tower.computing(), torch.enable_grad():
        running = stream.detach().requires_grad_()
        with AttentionReplacer(attend, running):
            running = first(tower.blocks[-1](running, *args, **kwargs))
        score = side.score(tower.head(running, tower.head_inputs(side.inputs)))
        ((value, output),) = seen
        (gradient,) = torch.autograd.grad(score.sum(), output)

    return gradient @ value.mT


def _projected_looseness(side: Side) -> AttentionMap:
    """Compute the cosine of each key with each query after the output projection, scaled to [0, 1] over the units."""
    last = side.tower.depth - 1
    trace = side.trace
    query = with_attention(trace, last, lambda record: record.query).added
    key = with_attention(trace, last, lambda record: record.key).added
    near = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT
    rows = side.tower.valid_tokens(side.inputs, query)
    if isinstance(side.units, Grid):
        patches = torch.zeros_like(rows)
        patches[:, list(side.units.tokens)] = True
        rows = rows & patches

    return min_max(near, rows[:, None].expand_as(near))


def _joined(heads: Float[Tensor, "batch head row channel"]) -> Float[Tensor, "batch row channels"]:
    return heads.transpose(1, 2).flatten(2)
