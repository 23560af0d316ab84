"""Tests of ``nibt.methods.nib``."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

import nibt
from nibt.core.side import Side
from nibt.errors import BadOption, UnknownName
from nibt.methods.nib import NIB
from nibt.models.base import Model
from nibt.results.pixels import to_pixels
from tests import tiny
from tests.helpers import Golden, all_tokens, assert_close, captum, cosine, is_rough, make_side, stretch
from tests.suites import few

ORACLE = ("clip", "siglip", "own vit", "own vit attention", "own resnet", "bert", "coca", "timm eva", "convnext")


def oracle(of: Side, layer: int, baseline: torch.Tensor, quadrature: str, steps: int) -> torch.Tensor:
    """Return captum's integrated gradients of the tail, summed over the channels."""
    cut = of.cut(layer)

    def tail(states: torch.Tensor) -> torch.Tensor:  # captum repeats the batch, step after step
        return of.score(cut.rest(states.unflatten(0, (-1, len(cut.hidden))))).flatten()

    return (
        captum("attr.IntegratedGradients")(tail)
        .attribute(cut.hidden, baseline, n_steps=steps, method=quadrature)
        .sum(-1)
        .float()
    )


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("kind", few(ORACLE, ["clip", "own resnet", "bert", "coca"]))
def test_nib_toward_zero_equals_the_riemann_sum_of_captum(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    layer = of.tower.depth - 1
    answer = NIB((layer,), "zero", "riemann", 10)(of)
    expected = oracle(of, layer, torch.zeros_like(of.cut(layer).hidden), "riemann_right", 10)
    torch.testing.assert_close(answer.scores, answer.units.keep(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("kind", few(ORACLE, ["clip", "own resnet", "bert", "coca"]))
def test_nib_toward_a_baseline_equals_gauss_legendre_of_captum(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    layer = 1
    hidden = of.cut(layer).hidden
    answer = NIB((layer,), "blank", "gauss", 8)(of)
    expected = oracle(of, layer, of.baseline("blank", layer, hidden), "gausslegendre", 8)
    torch.testing.assert_close(answer.scores, answer.units.keep(expected), atol=1e-6, rtol=1e-5)
    assert answer.path is not None
    torch.testing.assert_close(all_tokens(answer.path), expected.sum(-1), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("case", few([0, 1], [0]))
@pytest.mark.parametrize(("steps", "layer"), few([(10, 9), (5, 6), (20, 10)], [(5, 6)]))
def test_paper_variant_equals_the_output_of_the_authors(golden: Golden, case: int, steps: int, layer: int) -> None:
    options = {"variant": "paper", "steps": steps, "layer": layer}
    answer = nibt.explain(golden.model, golden.images[case], golden.captions[case], **options)
    pixels = stretch(to_pixels(answer.image.grid, 224, 224))[::8, ::8]
    np.testing.assert_allclose(pixels, golden.outputs[f"nib_s{steps}_l{layer}_v_{case}"], atol=1e-4)
    rows = _all_rows(golden.model, golden.captions[case], answer, steps, layer)
    np.testing.assert_allclose(rows, golden.outputs[f"nib_s{steps}_l{layer}_t_{case}"].ravel(), atol=1e-4)
    np.testing.assert_allclose(answer.similarity, golden.outputs[f"cos_{case}"].item(), atol=1e-6)


def test_paper_variant_has_the_published_setting(golden: Golden) -> None:
    answer = nibt.explain(golden.model, golden.folder / "image_0.png", "w1 w2", variant="paper")
    setting = {"baseline": "zero", "quadrature": "riemann", "steps": 10, "layer": [9]}
    assert setting.items() <= answer.method["image"].items()
    assert setting.items() <= answer.method["text"].items()


def _all_rows(model: Model, caption: str, answer: Any, steps: int, layer: int) -> np.ndarray:
    """Return the stretched scores including start and end tokens, which the authors keep."""
    text = model.text.trace(model.text.prepare([caption]))
    other = model.image.encode(model.image.prepare([answer.image.input]))
    of = Side(model, text, lambda embedding: cosine(embedding, other))
    rows = oracle(of, layer, torch.zeros_like(of.cut(layer).hidden), "riemann_right", steps)[0]
    words = of.cut(layer).units.keep(rows[None])[0]
    torch.testing.assert_close(words, answer.text.scores, atol=1e-6, rtol=1e-5)
    return stretch(rows)


@pytest.fixture(scope="module")
def deep() -> Model:
    """A random CLIP of 12 blocks per side, initialized as in Transformers, but with random biases."""
    built = tiny.clip()
    config = built.module.config.to_dict()
    for part in ("vision_config", "text_config"):
        config[part]["num_hidden_layers"] = 12
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        module = CLIPModel(CLIPConfig(**config)).eval()
        for name, tensor in module.named_parameters():
            if name.endswith("bias"):
                tensor.normal_(0, 0.3)
    return nibt.load_model(module, processor=built.processor)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_nib_gap_decreases_geometrically_with_the_steps(deep: Model, modality: str) -> None:
    of = make_side(deep, modality)
    layer = 9 if modality == "image" else 0
    gaps = []
    for steps in (2, 4, 8, 16):
        narrowing = NIB((layer,), "blank", "gauss", steps)(of).path
        assert narrowing is not None
        change = narrowing.at_input - narrowing.at_baseline
        gaps.append(float(((change - all_tokens(narrowing)).abs() / change.abs()).max()))
    for fewer, more in itertools.pairwise(gaps):
        assert more < 0.5 * fewer or more < 1e-4, gaps


@pytest.mark.parametrize("modality", ["image", "text"])
def test_nib_meets_a_tolerance(deep: Model, modality: str) -> None:
    of = make_side(deep, modality)
    layer = 9 if modality == "image" else 0
    narrowing = NIB((layer,), "blank", "gauss", 1, tolerance=0.01)(of).path
    assert narrowing is not None
    change = narrowing.at_input - narrowing.at_baseline
    assert not narrowing.missed.any()
    torch.testing.assert_close(all_tokens(narrowing), change, atol=0.01 * float(change.abs().max()), rtol=0)
    assert (narrowing.steps > 1).any()


WITH_TOLERANCE = [
    ("own vit", {"views": 3, "tolerance": 0.01}),
    ("clip", {"views": 5, "tolerance": 0.01}),
    ("clip", {"views": 1, "layer": [1, 2], "tolerance": 0.001}),
    ("clip", {"views": 2, "image_noise": "unit", "deviation": 0.1, "samples": 2, "image_tolerance": 0.001}),
]


@pytest.mark.parametrize(("kind", "options"), few(WITH_TOLERANCE, WITH_TOLERANCE[-1:]), ids=str)
def test_a_tolerance_holds_for_the_mean_that_is_reported(kind: str, options: dict[str, Any]) -> None:
    """Changes of views differ in sign here, so that their mean is smaller than each of them."""
    images = [tiny.image(seed=seed) for seed in range(12)]
    answers = nibt.explain(tiny.model(kind), images, "a cat", steps=1, text_steps=8, **options)
    assert not [answer.image.path.to_json() for answer in answers if answer.image.path.missed]
    assert "image side, " not in str([answer.warnings for answer in answers])


@pytest.mark.slow
def test_nib_tolerance_chooses_the_steps_of_each_item() -> None:
    deep, options = tiny.model("clip"), {"tolerance": 0.03, "steps": 1}
    images, captions = [tiny.image(seed=seed) for seed in range(4)], list(tiny.CAPTIONS)
    together = nibt.explain(deep, images, captions, **options)
    for one, image, caption in zip(together, images, captions, strict=True):
        alone = nibt.explain(deep, image, caption, **options)
        assert int(alone.image.path.steps) == int(one.image.path.steps)
        torch.testing.assert_close(one.image.scores, alone.image.scores, atol=1e-5 * _largest(alone), rtol=0)
    assert len({(int(one.image.path.steps), int(one.text.path.steps)) for one in together}) > 1, (
        "all items have the same number of steps"
    )


def test_nib_tolerance_computes_each_gradient_once() -> None:
    """Refinement keeps the gradients of an item, and takes no more of items that are accurate enough."""
    of, states = make_side(tiny.model("clip"), "text"), []
    of.baseline("blank", 0, of.cut(0).hidden)  # the tower keeps it
    hook = of.tower.blocks[0].register_forward_pre_hook(lambda _, args: states.append(len(args[0])))
    try:
        path = NIB((0,), "blank", "adaptive", 9, tolerance=0.01)(of).path
    finally:
        hook.remove()
    assert path is not None
    assert len(set(path.steps.tolist())) > 1, "all items have the same number of steps"
    assert sum(states) == int(path.steps.sum())


REFINED = [
    {"target": "softmax", "against": ["a dog", "a red mat"], "tolerance": 0.01},
    {"target": "ensemble", "templates": ["a photo of {}", "a drawing of {}"], "tolerance": 0.01},
    {"target": "logit", "tolerance": 0.003},
    {"target": "difference", "against": "a dog", "tolerance": 0.01},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    REFINED,
    ids=lambda options: options["target"],
)
def test_refined_items_keep_their_target(options: dict[str, Any]) -> None:
    """A part of a batch is refined with the captions that belong to it."""
    model, images = tiny.model("clip"), [tiny.image(seed=seed) for seed in range(4)]
    options |= {"steps": 1}
    together = nibt.explain(model, images, list(tiny.CAPTIONS), **options)
    assert len({int(answer.image.path.steps) for answer in together}) > 1, "all items have the same number of steps"
    for answer, image, caption in zip(together, images, tiny.CAPTIONS, strict=True):
        alone = nibt.explain(model, image, caption, **options)
        torch.testing.assert_close(answer.image.scores, alone.image.scores, atol=1e-5 * _largest(alone), rtol=0)


def _largest(answer: Any) -> float:
    return float(answer.image.scores.abs().max())


def test_nib_warns_if_the_tolerance_is_not_met(deep: Model) -> None:
    stiff = {"baseline": "zero", "quadrature": "riemann", "steps": 2, "image_layer": 2}
    explanation = nibt.explain(deep, tiny.image(), "a cat", tolerance=1e-6, **stiff)
    assert int(explanation.image.path.steps) == 64
    assert any("image side" in warning and "after 64 steps" in warning for warning in explanation.warnings)
    kept = nibt.explain(deep, tiny.image(), "a cat", tolerance=0.5)
    assert not any("tolerance" in warning for warning in kept.warnings)


@pytest.mark.slow
def test_nib_averages_layers(deep: Model) -> None:
    several = nibt.explain(deep, tiny.image(), "a cat", layer=[2, 5])
    single = [nibt.explain(deep, tiny.image(), "a cat", layer=layer) for layer in (2, 5)]
    torch.testing.assert_close(several.image.scores, (single[0].image.scores + single[1].image.scores) / 2)
    assert several.method["image"]["layer"] == [2, 5]
    assert several.to_json()["sides"]["text"]["path"]["layers"] == [2, 5]


def test_nib_rejects_layers_of_different_grids() -> None:
    with pytest.raises(nibt.NibtError, match="different grids"):
        nibt.explain(tiny.model("convnext"), tiny.image(), "a cat", image_layer=[0, 3])


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"layer": 13}, BadOption, r"layer must be between 0 and 12 for this image tower \(got 13\)"),
        ({"text_layer": -1}, BadOption, r"layer must be between 0 and 12 for this text tower \(got -1\)"),
        ({"layer": "two"}, BadOption, "layer must be a whole number, or a share of the depth above 0 and below 1"),
        ({"layer": -0.5}, BadOption, "layer must be a whole number, or a share of the depth .* .got -0.5"),
        ({"layer": []}, BadOption, "at least one layer"),
        ({"steps": 0}, BadOption, r"steps must be between 1 and .* \(got 0\)"),
        ({"steps": -2}, BadOption, "between 1 and 1,000"),
        ({"steps": 2.5}, BadOption, "steps must be a whole number"),
        ({"steps": float("nan")}, BadOption, "steps must be a whole number"),
        ({"tolerance": float("nan")}, BadOption, "tolerance must be a finite number above 0 .got nan"),
        ({"tolerance": 0}, BadOption, "tolerance must be above 0"),
        ({"floor": 2, "quadrature": "geometric", "baseline": "zero"}, BadOption, "floor must be above 0 and below 1"),
        ({"quadrature": "geometric"}, BadOption, "needs the baseline zero"),
        ({"baseline": "black"}, BadOption, "baseline must be zero, blank, mean, mean:FILE or against"),
        ({"baseline": "mean"}, nibt.NibtError, "ships no mean states"),
        ({"baseline": "mean:nowhere.safetensors"}, nibt.NibtError, "no file 'nowhere.safetensors'"),
        ({"depth": 3}, UnknownName, "unknown option 'depth'"),
        ({"variant": "papers"}, UnknownName, "Did you mean 'paper'"),
        ({"method": "nip"}, UnknownName, "Did you mean 'nib'"),
        ({"batch_size": 0}, BadOption, "batch_size must be between 1 and"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_nib_rejects_bad_options(deep: Model, options: dict, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        nibt.explain(deep, tiny.image(), "a cat", **options)


def test_nib_is_repeatable_to_the_bit(deep: Model) -> None:
    answers = [nibt.explain(deep, tiny.image(), "a cat and a dog") for _ in range(2)]
    assert answers[0].to_json() == answers[1].to_json()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("midpoint", 4, "midpoint", 6)),
        ({"steps": 1}, ("midpoint", 1, "midpoint", 1)),
        ({"tolerance": 0.01}, ("adaptive", 9, "adaptive", 9)),
        ({"tolerance": 0.01, "image_steps": 2}, ("midpoint", 2, "adaptive", 9)),
        ({"tolerance": 0.01, "quadrature": "gauss"}, ("gauss", 4, "gauss", 6)),
        ({"quadrature": "late"}, ("late", 1, "late", 1)),
        ({"quadrature": "riemann"}, ("riemann", 4, "riemann", 6)),
        ({"text_steps": 7}, ("midpoint", 4, "midpoint", 7)),
        ({"variant": "fast"}, ("midpoint", 3, "midpoint", 4)),
        ({"variant": "fast", "steps": 2}, ("midpoint", 2, "midpoint", 2)),
        ({"variant": "fast", "quadrature": "gauss"}, ("gauss", 3, "gauss", 4)),
        ({"variant": "fast", "tolerance": 0.01}, ("adaptive", 9, "adaptive", 9)),
        ({"variant": "paper"}, ("riemann", 10, "riemann", 10)),
        ({"variant": "paper", "tolerance": 0.01}, ("riemann", 10, "riemann", 10)),
    ],
    ids=str,
)
def test_rule_and_steps_follow_from_each_other(options: dict, expected: tuple) -> None:
    record = nibt.explain(tiny.model("clip"), tiny.image(), "a cat", **options).method
    resolved = [record[side][name] for side in ("image", "text") for name in ("quadrature", "steps")]
    assert tuple(resolved) == expected


def test_late_is_one_gradient() -> None:
    """The map is the gradient at two thirds of the path, times the difference from the baseline."""
    of = make_side(tiny.model("clip"), "image")
    cut, baseline = of.cut(1), of.baseline("blank", 1, of.cut(1).hidden)
    states = (baseline + 2 / 3 * (cut.hidden - baseline))[None].requires_grad_()
    (gradient,) = torch.autograd.grad(of.score(cut.rest(states)).sum(), states)
    expected = cut.units.keep(((cut.hidden - baseline) * gradient[0]).sum(-1))
    assert_close(NIB((1,), "blank", "late", 1)(of).scores, expected)


def test_an_answer_names_relative_scores() -> None:
    """The rule ``late`` always says it; other settings if the gap is above 30 % of the change."""
    model, image = tiny.model("clip"), tiny.image()
    late = nibt.explain(model, image, "a cat", image_quadrature="late")
    path = late.image.path
    factor = float(path.sum / (path.at_input - path.at_baseline))
    assert (
        f"the scores of the image side are relative: they add up to {float(path.sum):+.3g}, {factor:.2g} times"
        in str(late.warnings)
    )
    rough = nibt.explain(model, image, "a cat", baseline="zero", quadrature="riemann", steps=1, layer=1)
    for answer in (late, rough):
        assert ("text side are relative" in str(answer.warnings)) == is_rough(answer.text.path)
    assert is_rough(rough.text.path) or is_rough(rough.image.path)
    assert "relative" not in str(nibt.explain(model, image, "a cat", steps=32).warnings)
    assert "relative" not in str(nibt.explain(model, image, "a cat", variant="fast", tolerance=0.1).warnings)


def test_an_answer_names_the_score_of_special_tokens() -> None:
    """Where it is more than the error of the integral."""
    answer = nibt.explain("scenes", "sample:scene", "a hamburger", variant="paper", baseline="blank", steps=20)
    path = answer.image.path
    assert is_rough(path)
    assert f"special tokens have {float(path.special_tokens):+.3g}" in str(answer.warnings)
    assert "set distribute" in str(answer.warnings)


def test_late_rejects_a_tolerance() -> None:
    with pytest.raises(BadOption, match="quadrature must not be late with a tolerance"):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", quadrature="late", tolerance=0.01)
