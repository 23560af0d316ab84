"""Tests of ``nibt.methods.gradient_maps``."""

import pytest
import torch

from nibt.methods.gradient_maps import GradCAM
from tests import tiny
from tests.helpers import both_sides, captum, make_side
from tests.methods.eager import ByHand, close
from tests.suites import few


@pytest.mark.parametrize("kind", ["convnext", "resnet", "efficientnet", "own resnet"])
def test_textbook_grad_cam_equals_captum(kind: str) -> None:
    model = tiny.model(kind)
    of = make_side(model, "image")
    tower = model.image
    wanted = captum("attr.LayerGradCam")(
        lambda pixels: of.score(model.module.encode_image(pixels)), tower.blocks[-1]
    ).attribute(of.inputs.values, relu_attributions=True)
    answer = GradCAM.configured(tower, "textbook", {}, {})(of)
    assert answer.units.rows * answer.units.columns == wanted[0].numel()
    torch.testing.assert_close(answer.scores, wanted.flatten(1).detach(), atol=1e-6, rtol=1e-4)


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own resnet", "mt5"])
def test_grad_cam_equals_input_times_gradient_of_captum(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    layer = of.tower.depth - 2
    cut = of.cut(layer)
    product = captum("attr.InputXGradient")(lambda hidden: of.score(cut.rest(hidden[None]))[0]).attribute(
        cut.hidden.requires_grad_()
    )
    actual = GradCAM((layer,))(of)
    close(actual.scores, actual.units.keep(product.sum(-1).relu().detach()))
    assert actual.scores.any()
    several = GradCAM((layer, layer - 1))(of).scores if modality == "text" else actual.scores
    single = GradCAM((layer - 1,))(of).scores if modality == "text" else actual.scores
    torch.testing.assert_close(several, (actual.scores + single) / 2)


def test_pooled_grad_cam_averages_weights_over_words_only() -> None:
    """For a padded caption: neither start and end tokens nor padding count."""
    of = make_side(tiny.model("clip"), "text", ("two cats", "a small gray bird sleeping on the red mat"))
    cut = of.cut(1)
    states = cut.hidden[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(of.score(cut.rest(states)).sum(), states)
    words = list(of.units.words[0][0].tokens) + list(of.units.words[0][1].tokens)
    weights = gradient[0, 0, words].mean(0)
    wanted = (cut.hidden[0] @ weights).relu()
    actual = GradCAM((1,), "pooled")(of).scores
    torch.testing.assert_close(actual[0, words], wanted[words])
    assert not actual[0, [row for row in range(actual.shape[1]) if row not in words]].any()


@pytest.mark.parametrize(("depth", "layer"), few([(12, 10), (24, 19), (4, 4)], [(12, 10), (4, 4)]))
def test_grad_cam_takes_the_layer_at_three_quarters(depth: int, layer: int) -> None:
    tower = ByHand("image", depth).of.tower
    assert GradCAM.configured(tower, "default", {}, {}).layer == (layer,)
    assert GradCAM.configured(tiny.model("convnext").image, "default", {}, {}).layer == (4,)
