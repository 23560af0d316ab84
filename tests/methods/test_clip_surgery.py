"""Tests of ``nibt.methods.replaced_attention``."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nibt
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods.replaced_attention import CLIPSurgery, _among_values
from nibt.models._attention import record_attentions, with_attention
from nibt.models.base import Inputs
from tests import tiny, tiny_vision_language
from tests.helpers import assert_close, both_sides, make_side

Parts = tuple[list[Any], Callable[[Any, Tensor], Tensor], str]
"""The blocks, a function that computes the values of a block, and the name of its output projection."""


def hugging_face(clip: Any, modality: str) -> Parts:
    """Return the parts of CLIP of Transformers."""
    part = clip.vision_model if modality == "image" else clip.text_model
    return part.encoder.layers, lambda block, x: block.self_attn.v_proj(block.layer_norm1(x)), "self_attn.out_proj"


def open_clip(clip: Any, modality: str) -> Parts:
    """Return the parts of OpenCLIP's CLIP."""
    blocks = (clip.visual if modality == "image" else clip).transformer.resblocks

    def values(block: Any, x: Tensor) -> Tensor:
        weight, bias = block.attn.in_proj_weight.chunk(3)[2], block.attn.in_proj_bias.chunk(3)[2]
        return F.linear(block.ln_1(x), weight, bias)

    return blocks, values, "attn.out_proj"


def embedded(clip: Any, modality: str, states: Tensor) -> Tensor:
    """Return the embeddings of all rows."""
    if hasattr(clip, "vision_model"):
        image = modality == "image"
        norm = clip.vision_model.post_layernorm if image else clip.text_model.final_layer_norm
        return (clip.visual_projection if image else clip.text_projection)(norm(states))
    if modality == "image":
        return clip.visual.ln_post(states) @ clip.visual.proj
    return clip.ln_final(states) @ clip.text_projection


def second_path(of: Side, parts: Any, modality: str, blocks: int, heads: int) -> Tensor:
    """Return the embeddings of all rows on the second path: item by item, head by head, in a loop over the blocks."""
    clip, depth = of.model.module, of.tower.depth
    layers, values, projection = parts(clip, modality)
    embeddings = []
    for item in range(2):
        path = of.cut(depth - blocks).hidden[item]
        for number in range(depth - blocks, depth):
            value = values(layers[number], of.cut(number).hidden[item])
            outputs = []
            for v in value.chunk(heads, -1):
                logits = v @ v.T / v.shape[-1] ** 0.5
                if modality == "text":
                    logits = logits.masked_fill(torch.ones_like(logits).triu(1) > 0, -torch.inf)
                outputs.append(logits.softmax(-1) @ v)
            path = path + layers[number].get_submodule(projection)(torch.cat(outputs, -1))
        embeddings.append(embedded(clip, modality, path))
    return torch.stack(embeddings).detach()


def empty(of: Side, modality: str) -> Tensor:
    """Return the embedding of a caption of a start and an end token, or of an image of zeros."""
    model = of.model
    if modality == "text":
        return model.image.encode(Inputs(torch.zeros(1, 3, 32, 32)))
    if model.family == "clip":
        start, end = model.text.tokenizer.bos_token_id, model.text.tokenizer.eos_token_id
        return model.module.get_text_features(torch.tensor([[start, end]])).pooler_output.detach()
    return model.module.encode_text(model.text.tokenizer([""])).detach()


FAMILIES = [("clip", hugging_face), ("own vit", open_clip)]


@both_sides
@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize(("kind", "parts"), FAMILIES)
def test_clip_surgery_equals_its_second_path(kind: str, parts: Any, blocks: int, modality: str) -> None:
    """The cosine minus that with what says nothing; ``make_side`` has no captions to compare with."""
    of = make_side(tiny.model(kind), modality)
    embeddings = second_path(of, parts, modality, blocks, record_attentions(of.trace).last.weights.shape[1])
    nothing = F.cosine_similarity(embeddings, empty(of, modality)[:, None], dim=-1)
    expected = of.score(embeddings.transpose(0, 1)).T - nothing
    actual = CLIPSurgery(blocks=blocks)(of)
    assert_close(actual.scores, actual.units.keep(expected), share=2e-5)
    assert torch.equal(CLIPSurgery()(of).scores, CLIPSurgery(blocks=of.tower.depth)(of).scores)


@pytest.mark.parametrize("target", ["softmax", "difference"])
def test_clip_surgery_removes_what_the_labels_share(target: str) -> None:
    """Elementwise products, weighted by label, minus their mean over the labels; summed over the channels."""
    model, labels = tiny.model("clip"), ["two cats", "a red car", "the dog"][: 3 if target == "softmax" else 2]
    of = make_side(model, "image", ("two cats", "two cats"))
    patches = F.normalize(
        second_path(of, hugging_face, "image", 3, record_attentions(of.trace).last.weights.shape[1]), dim=-1
    )
    texts = F.normalize(torch.cat([model.text.encode(model.text.prepare([label])) for label in labels]), dim=-1)
    whole = F.normalize(of.trace.embedding, dim=-1)
    for item, seed in enumerate((1, 2)):
        share = (2 * whole[item] @ texts.T).softmax(-1)
        weights = share / share.mean()
        products = patches[item][:, None] * texts * weights[:, None]
        expected = (products - products.mean(1, keepdim=True)).sum(-1)[1:, 0]
        answer = nibt.explain(model, tiny.image(seed=seed), labels[0], "clip_surgery", target, against=labels[1:])
        assert_close(answer.image.scores, expected, share=2e-5)


def test_clip_surgery_explains_cosines_with_any_target() -> None:
    model = tiny.model("clip")
    maps = [nibt.explain(model, tiny.image(), "two cats", "clip_surgery", target) for target in ("cosine", "logit")]
    assert torch.equal(maps[0].image.scores, maps[1].image.scores)


def test_clip_surgery_has_views() -> None:
    model = tiny.model("clip")
    for options in ({}, {"target": "softmax", "against": ["a car", "a dog"]}):
        answer = nibt.explain(model, tiny.image(), "two cats", "clip_surgery", views=2, **options)
        assert answer.image.grid.shape == (8, 8)


def test_clip_surgery_works_without_special_tokens_in_captions() -> None:
    """The tokenizer of TIPSv2 adds none, so the caption without words is a padding token."""
    built = tiny.family("tipsv2")
    model = nibt.load_model(built.module, processor=built.processor)
    assert model.text.tokens("").ids == ()
    assert model.text.empty_inputs().values.tolist() == [[model.text.pad[0]]]
    answer = nibt.explain(model, tiny.image(), "two cats", "clip_surgery")
    assert answer.image.scores.isfinite().all()
    assert answer.image.scores.any()


def test_second_path_has_what_the_model_adds_between_blocks() -> None:
    """DeepStack adds features of the image after the first blocks; they do not come from an attention."""
    model = tiny_vision_language.model("qwen3_vl")
    image = model.image.trace(model.image.prepare([tiny.image()]))
    text = model.text.trace(model.text.prepare(["two cats"]))
    of = Side(model, image, lambda embedding: F.cosine_similarity(embedding, text.embedding, dim=-1))
    assert image.additions > 0
    added = sum(with_attention(image, number, _among_values).added for number in range(of.tower.depth))
    stems = image.cut(0).hidden.chunk(1 + image.additions, -1)
    width = stems[0].shape[-1]
    assert added.shape[-1] == width
    path = torch.stack(stems).sum(0) + added
    empty_caption = model.text.encode(model.text.empty_inputs())
    rows = [
        of.cut(of.tower.depth).rest(row[None, :, None].expand(-1, -1, path.shape[1], -1))[0] for row in path.unbind(1)
    ]
    expected = torch.stack([of.score(row) - F.cosine_similarity(row, empty_caption, dim=-1) for row in rows], 1)
    actual = CLIPSurgery(blocks=99)(of)
    assert_close(actual.scores, actual.units.keep(expected.detach()), share=2e-5, least=1e-6)


def test_clip_surgery_rejects_bad_options() -> None:
    with pytest.raises(BadOption, match=r"blocks must be between 1 and .* \(got 0\)"):
        nibt.explain(tiny.model("clip"), tiny.image(), "two cats", "clip_surgery", blocks=0)
