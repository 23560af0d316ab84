"""Tests of what the methods of attention share."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nibt
from nibt.core.side import Side
from nibt.errors import BadOption, Unsupported
from nibt.methods._attention import gradients
from nibt.methods.attention import Chefer, FastIG, SaliencyMap
from nibt.models._attention import record_attentions
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.pixels import to_pixels
from tests import tiny
from tests.helpers import METHODS, Golden, both_sides, cosine, make_side, stretch
from tests.methods.eager import ByHand, close
from tests.suites import few

ATTENTION = tuple(name for name, method in METHODS.items() if "attention" in method.needs)


GOLDEN = ("chefer", "fast_ig", "saliency_map", "grad_cam")


@pytest.mark.parametrize("case", few([0, 1], [0]))
@pytest.mark.parametrize("variant", few(["default", "paper"], ["paper"]))
@pytest.mark.parametrize("method", few(GOLDEN, ["chefer", "grad_cam"]))
def test_attention_methods_equal_the_output_of_the_authors(
    golden: Golden, method: str, variant: str, case: int
) -> None:
    model, caption = golden.model, golden.captions[case]
    answer = nibt.explain(model, golden.images[case], caption, method, variant=variant)
    pixels = to_pixels(answer.image.grid, 224, 224)
    np.testing.assert_allclose(stretch(pixels)[::8, ::8], golden.outputs[f"{method}_v_{case}"], atol=1e-4)
    expected = golden.outputs[f"{method}_t_{case}"].ravel()
    np.testing.assert_allclose(stretch(_all_rows(model, method, answer)), expected, atol=1e-4)


def _all_rows(model: Model, method: str, answer: Any) -> Tensor:
    """Return the scores including start and end tokens, which the authors keep."""
    text = model.text.trace(model.text.prepare([answer.caption]))
    other = model.image.encode(model.image.prepare([answer.image.input]))
    of = Side(model, text, lambda embedding: cosine(embedding, other))
    configured = find("methods", method).configured(model.text, "paper", {}, {})
    rows = configured.layer_scores(of, 10) if method == "grad_cam" else configured.scores(of)
    words = of.units.keep(rows.detach())[0]
    torch.testing.assert_close(words, answer.text.scores)
    return rows[0].detach()


@both_sides
def test_attention_methods_equal_their_formulas(modality: str) -> None:
    hand = ByHand(modality)
    weights = hand.seen["weights"][-1]
    (gradient,) = hand.gradients([weights])
    for method, matrix in (
        (Chefer(), (gradient * weights).clamp_min(0)),
        (FastIG(), gradient * weights),
        (SaliencyMap(), gradient.abs()),
    ):
        close(method(hand.of).scores, hand.kept(hand.read(matrix.mean(1))))


@pytest.mark.parametrize("method", ["chefer", "fast_ig", "saliency_map"])
def test_attention_methods_average_the_rows_that_the_head_averages(method: str) -> None:
    """Chefer, FastIG and SaliencyMap, row by row: for each of the 16 patches, not for the class token."""
    of = make_side(tiny.model("own vit average"), "image")
    configured = find("methods", method)()
    seen = record_attentions(of.trace, of.tower.depth - 1)
    (gradient,) = gradients(of, seen, [seen.last.weights])
    matrix = configured.key_scores(seen.last.weights, gradient).mean(1)
    torch.testing.assert_close(configured.scores(of), matrix[:, 1:].mean(1))


def test_saliency_map_explains_the_attention_pooling() -> None:
    of = make_side(tiny.model("siglip"), "image")
    cut = of.cut(of.tower.depth)
    head = of.tower.vision.head
    stream = of.tower.vision.post_layernorm(cut.hidden)
    attended = head.attention(head.probe.repeat(2, 1, 1), stream, stream, average_attn_weights=False)[1][:, :, 0]
    actual = SaliencyMap().scores(of)
    # the gradient of each weight is (dS/do) v, from the parts of captum and torch
    value = F.linear(stream, head.attention.in_proj_weight.chunk(3)[2], head.attention.in_proj_bias.chunk(3)[2])
    output = (attended[:, :, None] @ value.unflatten(-1, (3, 8)).transpose(1, 2)).transpose(1, 2).flatten(2)
    output = output.detach().requires_grad_()
    pooled = head.attention.out_proj(output)
    embedding = (pooled + head.mlp(head.layernorm(pooled)))[:, 0]
    (gradient,) = torch.autograd.grad(of.score(embedding).sum(), output)
    by_head = gradient.unflatten(-1, (3, 8)).transpose(1, 2) @ value.unflatten(-1, (3, 8)).transpose(1, 2).mT
    close(actual, by_head[:, :, 0].abs().mean(1).detach())


@pytest.mark.parametrize("kind", few(["own resnet", "convnext", "fastvit", "efficientnet", "resnet"], ["convnext"]))
@pytest.mark.parametrize("method", ATTENTION)
def test_attention_methods_reject_convolutional_trunks(kind: str, method: str) -> None:
    model = tiny.model(kind)
    message = r"needs attention, which this image tower lacks; methods for this image tower: (.*)"
    with pytest.raises(Unsupported, match=message) as refused:
        nibt.explain(model, tiny.image(), "two cats", method)
    offered = str(refused.value).partition("this image tower: ")[2].split(", ")
    assert {"nib", "grad_cam"} <= set(offered)
    assert not set(offered) & set(ATTENTION)
    with pytest.raises(Unsupported, match=message):
        find("methods", method)()(make_side(model, "image"))
    assert find("methods", method)()(make_side(model, "text")).scores.isfinite().all(), "the text tower has attention"


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("saliency_map", {"at": "output"}, r"at must be attention or input \(got 'output'\)"),
        ("fast_ig", {"at": "stem"}, "at must be attention or input"),
        ("grad_cam", {"weights": "mean"}, r"weights must be token or pooled \(got 'mean'\)"),
        ("grad_cam", {"layer": 9}, r"layer must be between 0 and 3"),
        ("gae", {"rectified": "all"}, r"rectified must be mean or heads \(got 'all'\)"),
        ("gae", {"blocks": 0}, r"blocks must be between 1 and .* \(got 0\)"),
        ("legrad", {"blocks": 0}, r"blocks must be between 1 and .* \(got 0\)"),
    ],
)
def test_attention_methods_reject_bad_options(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "two cats", method, **options)
