"""Tests of ``nibt.heads.direct_paths``: the sum of all parts, and a computation by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nibt.errors import Unsupported
from nibt.heads.direct_paths import DirectParts, DirectPaths, direct_paths
from nibt.models._inputs import Inputs
from nibt.models._tower import Trace
from nibt.models.base import Tower
from tests import tiny
from tests.helpers import both_sides, count_hooks, make_inputs
from tests.suites import few

REFUSED = {
    **{("image", kind): "its head is not linear" for kind in ("vit bert", "vit roberta")},
    **{
        ("text", kind): "its head is not linear"
        for kind in ("bert", "bert with pooler", "vit bert", "vit roberta", "clip vision bert", "dinov2 bert")
    },
    ("text", "blip 2"): "it computes several vectors",
}
"""Towers that have attentions, but no plain sum; some heads have a tanh or a perceptron."""
FAST = (
    "clip",
    "siglip naflex",
    "own vit average",
    "timm eva",
    "altclip",
    "blip",
    "openai",
    "mt5",
    "vit bert",
    "convnext",
)


def random_directions(trace: Trace) -> Tensor:
    draws = torch.randn(*trace.embedding.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lengths = trace.embedding.double().norm(dim=-1, keepdim=True)
    return (F.normalize(draws, dim=-1) / lengths).to(trace.embedding)


def split(tower: Tower, inputs: Inputs) -> tuple[Trace, DirectPaths, DirectParts]:
    trace = tower.trace(inputs)
    paths = direct_paths(trace)
    return trace, paths, paths.parts(random_directions(trace))


def total(parts: DirectParts) -> Tensor:
    return parts.heads.flatten(1).sum(1) + parts.perceptrons.sum(1) + parts.first + parts.constant


@both_sides
@pytest.mark.parametrize("kind", few(tiny.ALL, FAST))
def test_parts_add_up_to_the_product_with_the_embedding(kind: str, modality: Any) -> None:
    """The constant is that of a second forward pass, in which all else is zero: the sum is not true by definition."""
    tower = tiny.model(kind).tower(modality)
    reason = REFUSED.get((modality, kind))
    if reason is None and "attention" not in tower.offers:
        reason = "it is no plain sequence of attention blocks"
    if reason is not None:
        with pytest.raises(Unsupported, match=reason):
            split(tower, make_inputs(tower))
        return
    trace, paths, parts = split(tower, make_inputs(tower))
    torch.testing.assert_close(paths.embedding, trace.embedding, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total(parts), (trace.embedding * random_directions(trace)).sum(-1), atol=1e-6, rtol=0)
    assert parts.heads.shape[1] == tower.depth
    assert (parts.heads.flatten(2).abs().amax(2) > 1e-6).all(), "every block has a direct path"
    assert (parts.perceptrons[:, : tower.depth] != 0).all()
    assert count_hooks(tower.root) == 0


@both_sides
@pytest.mark.parametrize("kind", few(["clip", "chinese clip", "timm siglip", "timm eva"], ["clip"]))
def test_parts_are_exact_in_double_precision(kind: str, modality: Any) -> None:
    model = tiny.fresh(kind)
    model.module.double()
    tower = model.tower(modality)
    trace, _, parts = split(tower, make_inputs(tower))
    assert trace.embedding.dtype == torch.float64
    torch.testing.assert_close(total(parts), (trace.embedding * random_directions(trace)).sum(-1), atol=1e-13, rtol=0)


def by_hand(vision: Any, block: int, projection: Tensor, states: tuple[Tensor, ...], direction: Tensor) -> Tensor:
    """Compute what each head of a block of CLIP adds for each token, with loops over heads and tokens."""
    layer, norm = vision.encoder.layers[block], vision.post_layernorm
    attention = layer.self_attn
    normed = layer.layer_norm1(states[block])[0]
    query, key, value = (project(normed) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
    last = states[-1][0, 0]
    scale = norm.weight / (last.var(unbiased=False) + norm.eps).sqrt()
    width, count = attention.head_dim, attention.num_heads
    out = torch.zeros(count, len(normed))
    for head in range(count):
        columns = slice(head * width, (head + 1) * width)
        weights = (query[0, columns] @ key[:, columns].T * width**-0.5).softmax(-1)
        for token in range(len(normed)):
            added = attention.out_proj.weight[:, columns] @ value[token, columns] * weights[token]
            out[head, token] = projection @ ((added - added.mean()) * scale) @ direction
    return out


def test_heads_of_clip_equal_a_computation_by_hand() -> None:
    model = tiny.fresh("clip")
    trace, _, parts = split(model.image, make_inputs(model.image, 1))
    root: Any = model.image.root
    with torch.no_grad():
        out = root.vision_model(trace.inputs.values, output_hidden_states=True)
        direction = random_directions(trace)[0]
        for block in range(model.image.depth):
            projection = root.visual_projection.weight
            expected = by_hand(root.vision_model, block, projection, out.hidden_states, direction)
            torch.testing.assert_close(parts.heads[0, block], expected, atol=1e-6, rtol=1e-4)


@both_sides
@pytest.mark.parametrize("kind", few(["clip", "siglip", "altclip"], ["clip"]))
def test_vectors_of_heads_have_the_sums_of_heads_as_products(kind: str, modality: Any) -> None:
    tower = tiny.model(kind).tower(modality)
    trace, paths, parts = split(tower, make_inputs(tower))
    products = torch.einsum("blhd,bd->blh", paths.head_vectors(), random_directions(trace))
    torch.testing.assert_close(products, parts.heads.sum(-1), atol=1e-6, rtol=0)


@both_sides
@pytest.mark.parametrize("kind", few(["clip", "siglip naflex", "openai", "aimv2"], ["clip"]))
def test_parts_do_not_depend_on_batch_mates(kind: str, modality: Any) -> None:
    tower = tiny.model(kind).tower(modality)
    several = make_inputs(tower, 2)
    together = split(tower, several)[2]
    alone = direct_paths(tower.trace(several.take([1]))).parts(random_directions(tower.trace(several))[1:])
    torch.testing.assert_close(alone.heads[0], together.heads[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(total(alone)[0], total(together)[1], atol=1e-5, rtol=0)


def test_the_state_of_a_model_is_unchanged() -> None:
    model = tiny.fresh("clip")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    split(model.image, make_inputs(model.image))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert all(parameter.grad is None for parameter in model.module.parameters())
