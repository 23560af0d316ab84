"""Tests of ``nibt.methods.gradient_maps``."""

import math

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel

import nibt
from nibt.data.units import Grid
from nibt.errors import Unsupported
from nibt.methods._attention import gradients
from nibt.methods.gradient_maps import GradECLIP, _joined_channels
from nibt.models._attention import record_attentions
from tests import tiny
from tests.helpers import Record, assert_error_below, both_sides, make_side
from tests.methods.eager import ByHand, close


@both_sides
def test_grad_eclip_equals_its_formula(modality: str) -> None:
    """Token by token, with heads side by side as in the projections."""
    hand = ByHand(modality)
    output, query, key, value = (hand.seen[name][-1] for name in ("o", "query", "key", "value"))
    (gradient,) = hand.gradients([output])
    scores = torch.zeros_like(hand.own)
    for item, row in enumerate(hand.row.tolist()):
        visible = [t for t in range(scores.shape[1]) if modality == "image" or t <= row]
        near = torch.stack([F.cosine_similarity(query[item, row], key[item, t], dim=0) for t in visible])
        loose = (near - near.min()) / (near.max() - near.min())
        for t, weight in zip(visible, loose, strict=True):
            scores[item, t] = (gradient[item, row] * weight * value[item, t]).sum().relu()
    close(GradECLIP()(hand.of).scores, hand.kept(scores))


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit average", "coca", "mt5"])
def test_grad_eclip_without_loosening_equals_the_gradient_of_the_attention(kind: str, modality: str) -> None:
    """Summed over the heads, (dS/do) v is dS/dA: without loosening the two are equal (Cui and Fan, 2026)."""
    of = make_side(tiny.model(kind), modality)
    seen = record_attentions(of.trace, of.tower.depth - 1)
    on_output, on_weights = gradients(of, seen, [seen.last.output, seen.last.weights])
    joined = [part.transpose(1, 2).flatten(2) for part in (on_output, seen.last.value)]
    torch.testing.assert_close(joined[0] @ joined[1].mT, on_weights.sum(1), atol=1e-6, rtol=1e-4)


@both_sides
def test_the_variant_authors_equals_the_authors_program(modality: str, record_property: Record) -> None:
    """Written anew from generate_emap.py of the authors, for the network of OpenAI's package, one item at a time."""
    of = make_side(tiny.model("openai"), modality)
    net = of.model.module
    wanted = torch.zeros(of.inputs.values.shape[0], of.units.count)
    for item, values in enumerate(of.inputs.values):
        if modality == "image":
            visual, row = net.visual, 0
            patches = visual.conv1(values[None]).flatten(2)[0].T
            states = visual.ln_pre(torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding)
            blocks, end, projection = visual.transformer.resblocks, visual.ln_post, visual.proj
            mask = torch.zeros(len(states), len(states))
        else:
            row = int(values.argmax())
            states = net.token_embedding(values) + net.positional_embedding
            blocks, end, projection = net.transformer.resblocks, net.ln_final, net.text_projection
            mask = torch.full((len(states), len(states)), -math.inf).triu(1)
        for block in blocks[:-1]:
            states = block(states[:, None])[:, 0]
        block = blocks[-1]
        joined = block.attn.in_proj_weight @ block.ln_1(states).T + block.attn.in_proj_bias[:, None]
        query, key, value = joined.T.chunk(3, 1)
        output = torch.softmax(query @ key.T / math.sqrt(query.shape[1]) + mask, 1) @ value  # one head
        after = states + block.attn.out_proj(output)
        after = after + block.mlp(block.ln_2(after))
        everything = of.trace.embedding.detach().clone()
        everything[item] = end(after[row]) @ projection
        (gradient,) = torch.autograd.grad(of.score(everything)[item], output)
        scaled = range(1, len(states)) if modality == "image" else range(len(states))
        projected = block.attn.out_proj(query[row]).detach(), block.attn.out_proj(key).detach()
        near = {t: float(F.cosine_similarity(projected[0], projected[1][t], dim=0)) for t in scaled}
        low, high = min(near.values()), max(near.values())
        for t in range(1, len(states)) if modality == "image" else range(1, row):
            score = sum((gradient[row] * value[t]).tolist()) * (near[t] - low) / (high - low)
            wanted[item, t - 1 if modality == "image" else t] = max(0.0, score)
    method = GradECLIP.configured(of.tower, "authors", {}, {})
    actual = method(of).scores
    assert_error_below(1e-6, actual, wanted, record_property)
    assert not torch.allclose(actual, GradECLIP()(of).scores, atol=1e-3 * float(wanted.max()))


@both_sides
def test_joining_one_head_changes_nothing(modality: str) -> None:
    config = tiny.clip().module.config.to_dict()
    for part in ("vision_config", "text_config"):
        config[part]["num_attention_heads"] = 1
    module = tiny.randomized(lambda: CLIPModel(CLIPConfig(**config)))
    of = make_side(nibt.load_model(module, processor=tiny.clip().processor), modality)
    seen = record_attentions(of.trace, of.tower.depth - 1)
    (gradient,) = gradients(of, seen, [seen.last.output])
    actual = seen.read_by_head(_joined_channels(of))
    torch.testing.assert_close(actual, seen.read_by_head((gradient @ seen.last.value.mT)[:, 0]), atol=1e-6, rtol=1e-4)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "own vit", "bert"])
def test_the_variant_authors_does_not_depend_on_the_batch(kind: str, modality: str) -> None:
    of, method = make_side(tiny.model(kind), modality), GradECLIP(heads="joined")
    together = method(of).scores
    for item in (0, 1):
        alone = method(of.take([item])).scores[0]
        torch.testing.assert_close(alone, together[item, : len(alone)], atol=1e-5, rtol=1e-4)
    assert together.any()


def test_heads_that_pool_by_attention_have_no_variant_authors() -> None:
    of = make_side(tiny.model("siglip"), "image")
    assert isinstance(of.units, Grid)
    with pytest.raises(Unsupported, match=r"heads must be all for a .* whose head pools by attention"):
        GradECLIP(heads="joined")(of)
