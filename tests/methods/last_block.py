"""An oracle of methods that replace the last block: a CLIP whose last block is another module, of plain operations."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.models.base import Model
from tests import tiny
from tests.helpers import make_side

Mix = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Computes the weights of a head from its queries, its keys, and the pairs of rows that are hidden from each other."""
KINDS = pytest.mark.parametrize("kind", ["clip", "own vit"])
"""CLIP of Transformers and of OpenCLIP."""


class OtherBlock(nn.Module):
    """A block with other weights of attention, item by item and head by head.

    Args:
        block: The block of CLIP.
        heads: The number of its heads.
        mix: Computes the weights.
        causal: Whether rows after a row are hidden from it.
        alone: Whether the residual connection and the feed-forward network are left out.

    """

    def __init__(self, block: Any, heads: int, mix: Mix, causal: bool, alone: bool) -> None:
        super().__init__()
        self.block, self.heads, self.mix, self.causal, self.alone = block, heads, mix, causal, alone

    def forward(self, states: Tensor, *_: Any, **__: Any) -> Tensor:
        block = self.block
        if hasattr(block, "self_attn"):
            attention, norm, normed = block.self_attn, block.layer_norm2, block.layer_norm1(states)
            parts = [getattr(attention, f"{name}_proj")(normed) for name in "qkv"]
        else:
            attention, norm, normed = block.attn, block.ln_2, block.ln_1(states)
            parts = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
        rows = states.shape[1]
        hidden = torch.ones(rows, rows).triu(1) > 0 if self.causal else torch.zeros(rows, rows) > 0
        outputs = []
        for query, key, value in zip(*parts, strict=True):
            heads = zip(*(part.chunk(self.heads, -1) for part in (query, key, value)), strict=True)
            outputs.append(torch.cat([self.mix(q, k, hidden) @ v for q, k, v in heads], -1))
        added = attention.out_proj(torch.stack(outputs))
        middle = states + added
        return added if self.alone else middle + block.mlp(norm(middle))


def softmax(left: Tensor, right: Tensor, hidden: Tensor, prior: Tensor | float = 0.0) -> Tensor:
    """Return the softmax of scaled products and what is added to them."""
    logits = left @ right.T / left.shape[-1] ** 0.5 + prior
    return logits.masked_fill(hidden, -torch.inf).softmax(-1)


def scores_by_hand(of: Side, kind: str, modality: str, mix: Mix, alone: bool) -> Tensor:
    """Return the scores of the units: a copy of the model with another last block runs, and embeds each row."""
    clip, image, rows = copy.deepcopy(tiny.model(kind).module), modality == "image", []
    if kind == "clip":
        part = clip.vision_model if image else clip.text_model
        blocks, heads = part.encoder.layers, part.encoder.layers[-1].self_attn.num_heads
        norm = part.post_layernorm if image else part.final_layer_norm
        run, project = part, clip.visual_projection if image else clip.text_projection
    else:
        part = clip.visual if image else clip
        blocks, heads = part.transformer.resblocks, part.transformer.resblocks[-1].attn.num_heads
        norm, weight = (clip.visual.ln_post, clip.visual.proj) if image else (clip.ln_final, clip.text_projection)
        run, project = clip.encode_image if image else clip.encode_text, lambda states: states @ weight
    blocks[-1] = OtherBlock(blocks[-1], heads, mix, not image, alone)
    blocks[-1].register_forward_hook(lambda _, __, out: rows.append(project(norm(out))))
    with torch.no_grad():
        run(of.inputs.values)
        return of.units.keep(of.score(rows[0].transpose(0, 1)).T)


def queries_as_keys(kind: str) -> Model:
    """Return a new CLIP or SigLIP of Transformers whose queries are its keys in the last block of both sides."""
    model = tiny.fresh(kind)
    for part in (model.module.vision_model, model.module.text_model):
        attention = part.encoder.layers[-1].self_attn
        attention.q_proj.load_state_dict(attention.k_proj.state_dict())
    return model


def sides(model: Model) -> list[Side]:
    """Return both sides of two pairs."""
    return [make_side(model, modality) for modality in ("image", "text")]
