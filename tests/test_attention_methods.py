"""The methods of attention and of one gradient: against the authors' outputs, captum, and their formulas by hand."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import InputXGradient, LayerGradCam, Saliency
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

import nibt
import tiny
from helpers import Golden, assert_close, both_sides, make_side, stretch
from nibt.core.side import Side
from nibt.errors import BadOption, Unsupported
from nibt.methods._attention import gradients
from nibt.methods.chefer import Chefer
from nibt.methods.fast_ig import FastIG
from nibt.methods.gae import GAE
from nibt.methods.grad_cam import GradCAM
from nibt.methods.grad_eclip import GradECLIP
from nibt.methods.legrad import LeGrad
from nibt.methods.rollout import Rollout
from nibt.methods.saliency_map import SaliencyMap
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.attribution import to_pixels
from nibt.targets.base import cosine

ATTENTION = ("chefer", "fast_ig", "saliency_map", "gae", "rollout", "legrad", "grad_eclip")
GOLDEN = ("chefer", "fast_ig", "saliency_map", "grad_cam")
close = partial(assert_close, share=1e-6, least=1e-8, rtol=1e-4)


# ------------------------------------------------------------------------------------------- the authors' outputs


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("variant", ["default", "paper"])
@pytest.mark.parametrize("method", GOLDEN)
def test_it_is_the_authors_output(golden: Golden, method: str, variant: str, case: int) -> None:
    model, caption = golden.model, golden.captions[case]
    answer = nibt.explain(model, golden.images[case], caption, method, variant=variant)
    pixels = to_pixels(answer.image.grid, 224, 224)
    np.testing.assert_allclose(stretch(pixels)[::8, ::8], golden.outputs[f"{method}_v_{case}"], atol=1e-4)
    expected = golden.outputs[f"{method}_t_{case}"].ravel()
    np.testing.assert_allclose(stretch(_all_rows(model, method, answer)), expected, atol=1e-4)


def _all_rows(model: Model, method: str, answer: Any) -> Tensor:
    """The scores with start and end tokens, which the authors keep."""
    text = model.text.trace(model.text.prepare([answer.caption]))
    other = model.image.encode(model.image.prepare([answer.image.input]))
    of = Side(model, text, lambda embedding: cosine(embedding, other))
    configured = find("methods", method).configured(model.text, "paper", {}, {})
    rows = configured.at(of, 10) if method == "grad_cam" else configured.scores(of)
    words = of.units.keep(rows.detach())[0]
    torch.testing.assert_close(words, answer.text.scores)
    return rows[0].detach()


# ------------------------------------------------------------------------------------ by hand, on eager attention


class ByHand:
    """What Transformers' own eager CLIP computes, past nibt: attentions, streams and projections of one side."""

    def __init__(self, modality: str, blocks: int = 3) -> None:
        made = tiny.clip()
        config = made.module.config.to_dict()
        for part in ("vision_config", "text_config"):
            config[part]["num_hidden_layers"] = blocks
        self.module = tiny.randomised(lambda: CLIPModel(CLIPConfig(**config)))
        self.model = nibt.load_model(self.module, processor=made.processor)
        self.of = make_side(self.model, modality)
        self.seen: dict[str, list[Tensor]] = {name: [] for name in ("weights", "stream", "query", "key", "value", "o")}
        self.module.set_attn_implementation("eager")
        self._run(modality)

    def _run(self, modality: str) -> None:
        tower = self.of.tower
        handles = []

        def note(name: str, pick: Callable[[Any], Tensor]) -> Callable[..., None]:
            return lambda module, args, out: self.seen[name].append(pick(out))

        for block in tower.blocks:
            attention = block.self_attn
            parts = {"query": attention.q_proj, "key": attention.k_proj, "value": attention.v_proj}
            handles += [part.register_forward_hook(note(name, lambda out: out)) for name, part in parts.items()]
            handles.append(
                attention.out_proj.register_forward_pre_hook(lambda module, args: self.seen["o"].append(args[0]))
            )
            handles.append(attention.register_forward_hook(note("weights", lambda out: out[1])))
            handles.append(block.register_forward_hook(note("stream", lambda out: out)))
        self.embedding = tower.run(self.of.inputs)
        for handle in handles:
            handle.remove()
        self.module.set_attn_implementation("sdpa")
        end = self.of.inputs.values.eq(self.model.text.tokenizer.eos_token_id).int().argmax(1)
        self.row = torch.zeros(2, dtype=torch.long) if modality == "image" else end
        self.own = (
            torch.ones(self.seen["stream"][0].shape[:2])
            if modality == "image"
            else (torch.arange(self.of.inputs.values.shape[1]) <= end[:, None]).float()
        )

    def read(self, last: Tensor) -> Tensor:
        return last[torch.arange(2), self.row]

    def gradients(self, at: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.of.score(self.embedding).sum(), at, retain_graph=True)

    def kept(self, rows: Tensor) -> Tensor:
        return self.of.units.keep(rows.detach())


@both_sides
def test_the_methods_of_the_last_attention_by_hand(modality: str) -> None:
    hand = ByHand(modality)
    weights = hand.seen["weights"][-1]
    (gradient,) = hand.gradients([weights])
    for method, matrix in (
        (Chefer(), (gradient * weights).clamp_min(0)),
        (FastIG(), gradient * weights),
        (SaliencyMap(), gradient.abs()),
    ):
        close(method(hand.of).scores, hand.kept(hand.read(matrix.mean(1))))


@both_sides
@pytest.mark.parametrize("rectified", ["mean", "heads"])
def test_gae_by_hand(modality: str, rectified: str) -> None:
    """Chefer's recursion as it is written: a matrix R that starts at 1."""
    hand = ByHand(modality)
    tokens = hand.seen["stream"][0].shape[1]
    relevance = torch.eye(tokens).expand(2, -1, -1)
    found = hand.gradients(hand.seen["weights"])
    for weights, gradient in zip(hand.seen["weights"], found, strict=True):
        product = weights * gradient
        change = product.mean(1).relu() if rectified == "mean" else product.relu().mean(1)
        relevance = relevance + change @ relevance
    close(GAE(rectified)(hand.of).scores, hand.kept(hand.read(relevance)))


@both_sides
def test_gae_of_one_block_is_chefer(modality: str) -> None:
    hand = ByHand(modality, blocks=1)
    torch.testing.assert_close(GAE("heads")(hand.of).scores, Chefer()(hand.of).scores)
    assert Chefer()(hand.of).scores.any()


@both_sides
def test_rollout_by_hand(modality: str) -> None:
    hand = ByHand(modality)
    rolled = torch.eye(hand.seen["stream"][0].shape[1]).expand(2, -1, -1)
    for weights in hand.seen["weights"]:
        rolled = (weights.mean(1) + torch.eye(weights.shape[-1])) / 2 @ rolled
    close(Rollout()(hand.of).scores, hand.kept(hand.read(rolled)))
    torch.testing.assert_close(Rollout().scores(hand.of).sum(-1), torch.ones(2))


@both_sides
@pytest.mark.parametrize("blocks", [None, 1, 2, 7])
def test_legrad_by_hand(modality: str, blocks: int | None) -> None:
    hand = ByHand(modality)
    clip, total = hand.module, torch.zeros_like(hand.own)
    norm, project = (
        (clip.vision_model.post_layernorm, clip.visual_projection)
        if modality == "image"
        else (clip.text_model.final_layer_norm, clip.text_projection)
    )
    for stream, weights in list(zip(hand.seen["stream"], hand.seen["weights"], strict=True))[-(blocks or 3) :]:
        mean = torch.stack([one[own > 0].mean(0) for one, own in zip(stream, hand.own, strict=True)])
        value = hand.of.score(project(norm(mean)))
        (gradient,) = torch.autograd.grad(value.sum(), weights, retain_graph=True)
        for item in range(2):
            queries = gradient[item, :, hand.own[item] > 0].relu() * (weights[item, :, hand.own[item] > 0] > 0)
            total[item] += queries.mean((0, 1))
    close(LeGrad(blocks)(hand.of).scores, hand.kept(total))


@both_sides
def test_grad_eclip_by_hand(modality: str) -> None:
    """Token by token, with heads side by side as the projections give them."""
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
def test_grad_eclip_is_the_attentions_gradient_loosened(kind: str, modality: str) -> None:
    """Summed over the heads, (dS/do) v is dS/dA: with nothing loosened the two are one (Cui and Fan, 2026)."""
    of = make_side(tiny.model(kind), modality)
    seen = of.attentions(of.tower.depth - 1)
    on_output, on_weights = gradients(of, seen, [seen.last.output, seen.last.weights])
    joined = [part.transpose(1, 2).flatten(2) for part in (on_output, seen.last.value)]
    torch.testing.assert_close(joined[0] @ joined[1].mT, on_weights.sum(1), atol=1e-6, rtol=1e-4)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit average", "coca", "mt5"])
def test_fast_ig_adds_up_to_the_output_times_its_gradient(kind: str, modality: str) -> None:
    """Sum over keys of dS/dA A = (dS/do) . o, for each head and query."""
    of = make_side(tiny.model(kind), modality)
    seen = of.attentions(of.tower.depth - 1)
    (gradient,) = gradients(of, seen, [seen.last.output])
    wanted = ((gradient * seen.last.output).sum(-1).mean(1) * seen.rows).sum(-1)
    torch.testing.assert_close(FastIG().scores(of).sum(-1), wanted, atol=1e-6, rtol=1e-3)


# ----------------------------------------------------------------------------------------------- what they promise


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit attention", "bert"])
def test_rollout_is_the_same_for_every_other_side(kind: str, modality: str) -> None:
    model, other = (
        tiny.model(kind),
        torch.linspace(-1, 1, tiny.model(kind).image.encode(tiny.model(kind).image.prepare([tiny.image()])).shape[-1]),
    )
    of = make_side(model, modality)
    elsewhere = Side(model, of.trace, lambda embedding: cosine(embedding, other))
    assert torch.equal(Rollout()(of).scores, Rollout()(elsewhere).scores)
    assert not torch.allclose(FastIG()(of).scores, FastIG()(elsewhere).scores)


@pytest.mark.parametrize("method", ["chefer", "fast_ig", "saliency_map"])
def test_where_the_head_averages_the_rows_are_averaged(method: str) -> None:
    """Chefer, FastIG and SaliencyMap, row by row: of each of the 16 patches, not of the class token."""
    of = make_side(tiny.model("own vit average"), "image")
    asked = find("methods", method)()
    seen = of.attentions(of.tower.depth - 1)
    (gradient,) = gradients(of, seen, [seen.last.weights])
    matrix = asked.weighed(seen.last.weights, gradient).mean(1)
    torch.testing.assert_close(asked.scores(of), matrix[:, 1:].mean(1))


def test_where_the_head_pools_by_attention_the_pooling_is_explained() -> None:
    of = make_side(tiny.model("siglip"), "image")
    cut = of.cut(of.tower.depth)
    head = of.tower.vision.head
    stream = of.tower.vision.post_layernorm(cut.hidden)
    attended = head.attention(head.probe.repeat(2, 1, 1), stream, stream, average_attn_weights=False)[1][:, :, 0]
    found = SaliencyMap().scores(of)
    # the gradient of each weight is (dS/do) v: from captum's and torch's parts, past nibt
    value = F.linear(stream, head.attention.in_proj_weight.chunk(3)[2], head.attention.in_proj_bias.chunk(3)[2])
    output = (attended[:, :, None] @ value.unflatten(-1, (3, 8)).transpose(1, 2)).transpose(1, 2).flatten(2)
    output = output.detach().requires_grad_()
    pooled = head.attention.out_proj(output)
    embedding = (pooled + head.mlp(head.layernorm(pooled)))[:, 0]
    (gradient,) = torch.autograd.grad(of.score(embedding).sum(), output)
    by_head = gradient.unflatten(-1, (3, 8)).transpose(1, 2) @ value.unflatten(-1, (3, 8)).transpose(1, 2).mT
    close(found, by_head[:, :, 0].abs().mean(1).detach())


@pytest.mark.parametrize("kind", ["convnext", "resnet", "efficientnet", "own resnet"])
def test_the_textbooks_grad_cam_is_captums(kind: str) -> None:
    model = tiny.model(kind)
    of = make_side(model, "image")
    tower = model.image
    wanted = LayerGradCam(lambda pixels: of.score(model.module.encode_image(pixels)), tower.blocks[-1]).attribute(
        of.inputs.values, relu_attributions=True
    )
    answer = GradCAM.configured(tower, "textbook", {}, {})(of)
    assert answer.units.rows * answer.units.columns == wanted[0].numel()
    torch.testing.assert_close(answer.scores, wanted.flatten(1).detach(), atol=1e-6, rtol=1e-4)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own resnet", "mt5"])
def test_grad_cam_is_captums_input_times_gradient_on_the_tail(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    layer = of.tower.depth - 2
    cut = of.cut(layer)
    product = InputXGradient(lambda hidden: of.score(cut.rest(hidden[None]))[0]).attribute(cut.hidden.requires_grad_())
    found = GradCAM((layer,))(of)
    close(found.scores, found.units.keep(product.sum(-1).relu().detach()))
    assert found.scores.any()
    several = GradCAM((layer, layer - 1))(of).scores if modality == "text" else found.scores
    single = GradCAM((layer - 1,))(of).scores if modality == "text" else found.scores
    torch.testing.assert_close(several, (found.scores + single) / 2)


def test_pooled_weights_are_means_over_the_words_alone() -> None:
    """By hand, for a caption that is padded: neither its start and end nor its padding count."""
    of = make_side(tiny.model("clip"), "text", ("two cats", "a small grey bird sleeping on the red mat"))
    cut = of.cut(1)
    states = cut.hidden[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(of.score(cut.rest(states)).sum(), states)
    words = list(of.units.words[0][0].tokens) + list(of.units.words[0][1].tokens)
    weights = gradient[0, 0, words].mean(0)
    wanted = (cut.hidden[0] @ weights).relu()
    found = GradCAM((1,), "pooled")(of).scores
    torch.testing.assert_close(found[0, words], wanted[words])
    assert not found[0, [row for row in range(found.shape[1]) if row not in words]].any()


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit", "mt5", "convnext"])
def test_the_textbooks_gradients_of_the_input_are_captums(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    stem = of.stem()

    def tail(states: Tensor) -> Tensor:
        return of.score(stem.rest(states[None]))[0]

    for method, oracle in ((SaliencyMap("input"), Saliency(tail)), (FastIG("input"), InputXGradient(tail))):
        product = oracle.attribute(stem.hidden.requires_grad_()).detach()
        rows = product.amax(-1) if isinstance(method, SaliencyMap) else product.sum(-1)
        answer = method(of)
        torch.testing.assert_close(answer.scores, stem.units.keep(rows), atol=3e-6, rtol=1e-4)
        configured = type(method).configured(of.tower, "textbook", {}, {})
        assert torch.equal(configured(of).scores, answer.scores)


@pytest.mark.parametrize(("depth", "layer"), [(12, 10), (24, 19), (4, 4)])
def test_grad_cams_layer_leaves_the_block_at_three_quarters(depth: int, layer: int) -> None:
    tower = ByHand("image", depth).of.tower
    assert GradCAM.configured(tower, "default", {}, {}).layer == (layer,)
    assert GradCAM.configured(tiny.model("convnext").image, "default", {}, {}).layer == (4,)


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("kind", ["own resnet", "convnext", "fastvit", "efficientnet", "resnet"])
@pytest.mark.parametrize("method", ATTENTION)
def test_convolutional_trunks_are_refused_with_what_needs_less(kind: str, method: str) -> None:
    model = tiny.model(kind)
    told = r"needs attention, and this image tower, a ConvolutionalTower, has none; methods that need less: (.*)"
    with pytest.raises(Unsupported, match=told) as refused:
        nibt.explain(model, tiny.image(), "two cats", method)
    offered = str(refused.value).partition("less: ")[2].split(", ")
    assert {"nib", "grad_cam"} <= set(offered)
    assert not set(offered) & set(ATTENTION)
    with pytest.raises(Unsupported, match=told):
        find("methods", method)()(make_side(model, "image"))
    assert find("methods", method)()(make_side(model, "text")).scores.isfinite().all(), "its text tower has attention"


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("saliency_map", {"at": "output"}, r"at must be attention or input \(got 'output'\)"),
        ("fast_ig", {"at": "stem"}, "at must be attention or input"),
        ("grad_cam", {"weights": "mean"}, r"weights must be token or pooled \(got 'mean'\)"),
        ("grad_cam", {"layer": 9}, r"layer must lie in 0\.\.3"),
        ("gae", {"rectified": "all"}, r"rectified must be mean or heads \(got 'all'\)"),
        ("legrad", {"blocks": 0}, r"blocks must be at least 1 \(got 0\)"),
    ],
)
def test_bad_options_are_refused(method: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption, match=told):
        nibt.explain(tiny.model("clip"), tiny.image(), "two cats", method, **options)
