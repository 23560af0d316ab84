"""Tests of ``nibt.methods.replaced_attention``."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nibt
from nibt.core.side import Side
from nibt.methods.replaced_attention import MaskCLIP
from nibt.models._attention import with_attention
from tests import tiny, tiny_vision_language
from tests.helpers import assert_close, both_sides, make_side
from tests.suites import few


def hugging_face(kind: str, modality: str, states: Tensor) -> Tensor:
    """Return the embeddings of all rows, from the last block of CLIP, module by module."""
    clip = tiny.model(kind).module
    part = clip.vision_model if modality == "image" else clip.text_model
    block = part.encoder.layers[-1]
    states = states + block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(states)))
    states = states + block.mlp(block.layer_norm2(states))
    if modality == "image":
        return clip.visual_projection(part.post_layernorm(states))
    return clip.text_projection(part.final_layer_norm(states))


def open_clip(kind: str, modality: str, states: Tensor) -> Tensor:
    """Return the same from the last block of OpenCLIP."""
    clip = tiny.model(kind).module
    block = (clip.visual if modality == "image" else clip).transformer.resblocks[-1]
    weight, bias = block.attn.in_proj_weight.chunk(3)[2], block.attn.in_proj_bias.chunk(3)[2]
    states = states + block.attn.out_proj(F.linear(block.ln_1(states), weight, bias))
    states = states + block.mlp(block.ln_2(states))
    if modality == "image":
        return clip.visual.ln_post(states) @ clip.visual.proj
    return clip.ln_final(states) @ clip.text_projection


@both_sides
@pytest.mark.parametrize(("kind", "by_hand"), [("clip", hugging_face), ("own vit", open_clip)])
def test_maskclip_equals_its_modules_called_by_hand(kind: str, by_hand: Any, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    embeddings = by_hand(kind, modality, of.cut(of.tower.depth - 1).hidden)
    expected = of.score(embeddings.transpose(0, 1)).T.detach()
    actual = MaskCLIP()(of)
    assert_close(actual.scores, actual.units.keep(expected))


def test_maskclip_of_a_pooling_head_is_the_value_of_each_patch() -> None:
    """SigLIP: the last attention is that of the head, and its block is unchanged."""
    of = make_side(tiny.model("siglip"), "image")
    head = of.tower.vision.head
    states = of.tower.vision.post_layernorm(of.cut(of.tower.depth).hidden)
    weight, bias = head.attention.in_proj_weight.chunk(3)[2], head.attention.in_proj_bias.chunk(3)[2]
    pooled = head.attention.out_proj(F.linear(states, weight, bias))
    embeddings = pooled + head.mlp(head.layernorm(pooled))
    assert_close(MaskCLIP()(of).scores, of.score(embeddings.transpose(0, 1)).T.detach())


@both_sides
def test_maskclip_scores_the_target(modality: str) -> None:
    """With another target, the score of a patch is that target of its embedding."""
    of = make_side(tiny.model("clip"), modality)
    other = torch.linspace(-1, 1, of.trace.embedding.shape[-1])

    def difference(embedding: Tensor) -> Tensor:
        return of.score(embedding) - F.cosine_similarity(embedding, other, dim=-1)

    embeddings = hugging_face("clip", modality, of.cut(of.tower.depth - 1).hidden)
    actual = MaskCLIP()(replace(of, score=difference))
    assert_close(actual.scores, actual.units.keep(difference(embeddings.transpose(0, 1)).T.detach()))


@pytest.mark.parametrize(
    "method", few(["maskclip", "clip_surgery", "sclip", "clearclip", "naclip"], ["clip_surgery", "naclip"])
)
@pytest.mark.parametrize("dtype", few(["bfloat16", "float16"], ["bfloat16"]))
@pytest.mark.parametrize("kind", few(["clip", "siglip"], ["siglip"]))
def test_similarities_of_patches_work_in_half_precision(kind: str, dtype: str, method: str) -> None:
    model = tiny.fresh(kind)
    whole = nibt.explain(model, tiny.image(), "two cats", method)
    model.module.to(getattr(torch, dtype))
    half = nibt.explain(model, tiny.image(), "two cats", method)
    assert half.image.scores.dtype == torch.float32
    assert F.cosine_similarity(half.image.scores, whole.image.scores, dim=0) > 0.99
    assert F.cosine_similarity(half.text.scores, whole.text.scores, dim=0) > 0.98


def test_maskclip_of_late_interaction_scores_each_vector() -> None:
    """ColPali: the value path of the last block, row by row, and the similarity of each vector alone."""
    model = tiny_vision_language.model("colpali")
    image, text = (
        tower.trace(tower.prepare(items)) for tower, items in ((model.image, [tiny.image()]), (model.text, ["cats"]))
    )
    of = Side(model, image, lambda embedding: model.similarity(embedding, text.embedding))
    last = of.tower.depth - 1
    stream = with_attention(image, last, lambda record: record.value).stream
    vectors = of.cut(of.tower.depth).rest(stream[None])[0, 0]
    expected = torch.stack([(text.embedding[0] @ vector).sum() for vector in vectors]).detach()
    actual = MaskCLIP()(of)
    assert_close(actual.scores, actual.units.keep(expected[None]))
