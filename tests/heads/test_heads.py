"""Tests of ``nibt.heads.heads``."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nibt
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption
from nibt.heads.heads import HeadName, text_span
from tests import tiny
from tests.helpers import count_hooks

IMAGES = [tiny.image(seed=seed) for seed in range(3)]
WORDS = ("cat", "dog", "red", "blue", "tree", "bird")


def unit_rows(count: int, width: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_text_span_finds_planted_texts_in_order() -> None:
    """The outputs vary along three of forty texts, most along the first, and have an offset that is no variance."""
    texts, random = unit_rows(40, 24), np.random.default_rng(1)
    amounts = random.normal(size=(200, 3)) * [4, 2, 1]
    noise = 0.001 * random.normal(size=(200, 24))
    chosen, shares, variance = text_span(amounts @ texts[[17, 5, 30]] + 10 * texts[8] + noise, texts, 5)
    assert chosen[:3] == (17, 5, 30)
    assert sum(shares[:3]) == pytest.approx(1, abs=1e-3)
    assert shares[0] > shares[1] > shares[2] > sum(shares[3:])
    assert variance == pytest.approx(4**2 + 2**2 + 1, rel=0.3)


def test_text_span_of_orthogonal_texts_is_their_variances() -> None:
    """The columns are orthogonal, and the last is constant."""
    outputs = np.array([[3, 2, 0.5, 7], [-3, 2, -0.5, 7], [3, 0, -0.5, 7], [-3, 0, 0.5, 7]])
    chosen, shares, variance = text_span(outputs, np.eye(4), 4)
    assert chosen == (0, 1, 2)
    np.testing.assert_allclose(shares, [36 / 41, 4 / 41, 1 / 41])
    assert variance == pytest.approx(41 / 4)


@pytest.mark.parametrize("rank", [1, 2, 5, 12, 80])
def test_text_span_is_that_of_its_authors_at_every_rank(rank: int) -> None:
    """Their program in formulas: P = V V' with the first right singular vectors V of the outputs, whose mean counts."""
    random = np.random.default_rng(rank)
    outputs, texts = (
        random.normal(size=(30, 12)) * np.linspace(3, 0.2, 12) + 2 * random.normal(size=12),
        unit_rows(60, 12),
    )
    right = np.linalg.svd(outputs)[2][:rank].T
    features, left, expected = texts @ right @ right.T, outputs - outputs.mean(0), []
    for _ in range(min(rank, 6)):
        best = int((left @ features.T).std(0).argmax())
        removal = np.eye(12) - np.outer(features[best], features[best]) / (features[best] @ features[best])
        expected.append(best)
        left, features = left @ removal, features @ removal
    assert list(text_span(outputs, texts, min(rank, 6), rank)[0]) == expected


def test_constant_outputs_have_no_texts() -> None:
    assert text_span(np.ones((5, 3)), np.eye(3), 2)[:2] == ((), ())


def test_heads_are_named_the_same_each_time() -> None:
    model = tiny.model("clip")
    names = nibt.name_heads(model, IMAGES, WORDS, 2)
    assert names == nibt.name_heads(model, IMAGES, WORDS, 2)
    assert names == nibt.name_heads(model, IMAGES, [*WORDS, WORDS[0]], 2)
    assert {(name.layer, name.head) for name in names} == {(layer, head) for layer in range(3) for head in range(3)}
    assert [name.variance for name in names] == sorted((name.variance for name in names), reverse=True)
    assert all(len(name.texts) == 2 and set(name.texts) <= set(WORDS) for name in names)
    assert all(0 < sum(name.shares) <= 1 + 1e-6 for name in names)


def test_a_named_head_prints_in_one_short_line() -> None:
    assert repr(HeadName(3, 7, ("a cat", "red"), (0.234, 0.1), 2e-3)) == "head 3.7: 'a cat' 23%, 'red' 10%"


def test_variance_is_that_of_contributions() -> None:
    """With the texts as directions, the variance of what a head adds to the similarity follows from decompositions."""
    model = tiny.model("clip")
    pairs = [nibt.Pair(image, "cat") for image in IMAGES]
    (best, *_) = nibt.name_heads(model, pairs, ["cat"], 1)
    results = nibt.decompose(model, IMAGES, "cat")
    assert isinstance(results, list)
    sums = torch.stack([result.sums[best.layer, best.head] for result in results]).double()
    along = float((sums - sums.mean()).square().mean())
    assert along <= best.variance * (1 + 1e-6)


def ablated_by_hooks(model: Any, layer: int, head: int, pixels: Tensor) -> Tensor:
    """Compute embeddings of CLIP with a head at its mean, with a hook on the output projection of its attention."""
    attention = model.module.vision_model.encoder.layers[layer].self_attn
    columns = slice(head * attention.head_dim, (head + 1) * attention.head_dim)

    def before(_: Any, args: tuple[Tensor]) -> tuple[Tensor]:
        out = args[0].clone()
        out[..., columns] = out[..., columns].mean(0)
        return (out,)

    handle = attention.out_proj.register_forward_pre_hook(before)
    try:
        return model.image.run(model.image.prepare(IMAGES)).detach()
    finally:
        handle.remove()


def test_actual_changes_are_those_of_the_model_with_hooks() -> None:
    model: Any = tiny.fresh("clip")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    captions = list(tiny.CAPTIONS[:3])
    ablation = nibt.ablate_heads(model, IMAGES, captions, heads=[(0, 1), (1, 2), (2, 0)])
    texts, images = model.text.encode(model.text.prepare(captions)), model.image.prepare(IMAGES)
    plain = torch.cosine_similarity(model.image.encode(images), texts)
    for column, (layer, head) in enumerate(ablation.heads):
        changed = torch.cosine_similarity(ablated_by_hooks(model, layer, head, images.values), texts)
        torch.testing.assert_close(ablation.actual[:, column], changed - plain, atol=1e-6, rtol=0)
    assert count_hooks(model.module) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


def test_prediction_is_exact_up_to_the_length_where_nothing_reacts() -> None:
    """Without a perceptron after the last attention and without the bias of the last norm, only lengths change.

    The frozen and the actual embedding then have one direction, so the ratio of their similarities is that of the
    lengths, for any caption.
    """
    model: Any = tiny.fresh("clip")
    vision = model.module.vision_model
    with torch.no_grad():
        for parameter in (*vision.encoder.layers[-1].mlp.fc2.parameters(), vision.post_layernorm.bias):
            parameter.zero_()
    heads, ratios = [(2, head) for head in range(3)], []
    for caption in ("a cat", "two cars"):
        ablation = nibt.ablate_heads(model, IMAGES, caption, heads=heads)
        results = nibt.decompose(model, IMAGES, caption)
        assert isinstance(results, list)
        before = torch.tensor([[result.similarity] for result in results])
        assert float(ablation.actual.abs().max()) > 0.05
        ratios.append((before + ablation.predicted) / (before + ablation.actual))
    torch.testing.assert_close(*ratios, atol=0, rtol=1e-3)
    assert (ratios[0] - 1).abs().max() > 0.01


@pytest.mark.slow
def test_direct_effects_predict_ablations_of_late_heads_of_scenes() -> None:
    pairs = list(Scenes(count=16))
    images, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    late = nibt.ablate_heads(
        "scenes", images, captions, heads=[(layer, head) for layer in (9, 10, 11) for head in range(4)]
    )
    assert late.correlation > 0.85
    assert late.of_layer(10).predicted.shape == (16, 4)
    early = nibt.ablate_heads("scenes", images, captions, heads=[(0, head) for head in range(4)])
    assert early.correlation < late.correlation, "early heads act through later layers"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nibt.name_heads(tiny.model("clip"), IMAGES[:1], ["cat"]), BadInput, r"at least two images \(got 1\)"),
        (lambda: nibt.name_heads(tiny.model("clip"), IMAGES, []), BadInput, "at least one text"),
        (lambda: nibt.name_heads(tiny.model("clip"), IMAGES, ["cat"], 0), BadOption, "count must be between 1 and"),
        *(
            (
                lambda count=count: nibt.name_heads(tiny.model("clip"), IMAGES, ["cat"], count),
                BadOption,
                "count must be",
            )
            for count in (1.5, np.nan, "many", None)
        ),
        (lambda: nibt.name_heads(tiny.model("clip"), IMAGES, ["cat"], rank=0), BadOption, "rank must be"),
        (lambda: nibt.name_heads(tiny.model("clip"), IMAGES, None), BadInput, "the caption must be a string"),
        *(
            (
                lambda heads=heads: nibt.ablate_heads(tiny.model("clip"), IMAGES, "a cat", heads=heads),
                BadOption,
                "heads",
            )
            for heads in (5, "ab", [(0.9, 1.2)], [(0, 1, 2)], [0, 1], [(None, 0)], {"a": 1})
        ),
        (lambda: nibt.ablate_heads(tiny.model("clip"), IMAGES[0], "a cat"), BadInput, "at least two images"),
        (
            lambda: nibt.ablate_heads(tiny.model("clip"), IMAGES, "a cat", heads=[(3, 0)]),
            BadOption,
            r"a layer from 0 to 2 and a head from 0 to 2 \(got \(3, 0\)\)",
        ),
        (
            lambda: nibt.ablate_heads(tiny.model("siglip naflex"), [tiny.image(64, 48), tiny.image(90, 30)], "a cat"),
            BadInput,
            "one grid",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_correlation_of_changes_that_are_rounding_is_unknown() -> None:
    change = torch.tensor([[0.1], [0.1], [0.1]]) + torch.tensor([[0.0], [6e-8], [-6e-8]])
    assert math.isnan(nibt.HeadAblation(((0, 0),), change, change).correlation)


def test_a_correlation_of_two_numbers_is_unknown() -> None:
    change = torch.tensor([[0.1], [-0.2]])
    assert math.isnan(nibt.HeadAblation(((0, 0),), change, change).correlation)
    assert "correlation unknown" in repr(nibt.HeadAblation(((0, 0),), change, change))
    assert "correlation 1.000" in repr(
        nibt.HeadAblation(((0, 0), (0, 1)), change * torch.ones(2), change * torch.ones(2))
    )
