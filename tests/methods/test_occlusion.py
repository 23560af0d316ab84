"""Tests of ``nibt.methods.masks``."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.methods.coalition_values import Shapley
from nibt.methods.masks import Occlusion
from tests import linear, tiny
from tests.helpers import at_end, captum, make_side


@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit", "own vit oblong"])
def test_occlusion_of_patches_equals_captum(kind: str) -> None:
    of = make_side(tiny.model(kind), "image")
    pixels, units = of.inputs.values, of.units
    patches = torch.arange(units.count).reshape(1, 1, units.rows, units.columns)
    features = F.interpolate(patches.float(), pixels.shape[-2:]).long().expand(1, 3, -1, -1)

    def forward(values: torch.Tensor) -> torch.Tensor:
        return of.score(of.tower.encode(type(of.inputs)(values)))

    wanted = captum("attr.FeatureAblation")(forward).attribute(pixels, 0.0, feature_mask=features)
    first = torch.stack([(features[0, 0] == unit).flatten().int().argmax() for unit in range(units.count)])
    torch.testing.assert_close(Occlusion()(of).scores, wanted[:, 0].flatten(1)[:, first], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "siglip", "own text both ways", "bert"])
def test_occlusion_of_words_equals_captum(kind: str) -> None:
    of = make_side(tiny.model(kind), "text")
    stem = of.stem()
    features = torch.arange(stem.hidden.shape[1])[None, :, None].expand(1, -1, stem.hidden.shape[2])
    padding = of.tower.embedder(torch.tensor(of.tower.pad[0])).detach().expand_as(stem.hidden)
    wanted = captum("attr.FeatureAblation")(lambda states: at_end(of, "zero", None, stem, states)).attribute(
        stem.hidden, padding, feature_mask=features
    )
    torch.testing.assert_close(Occlusion()(of).scores, stem.units.keep(wanted[..., 0]), atol=1e-6, rtol=1e-4)


def test_occlusion_of_a_convolutional_trunk_uses_its_last_map() -> None:
    of = make_side(tiny.model("convnext"), "image")
    actual = Occlusion()(of)
    assert actual.units == of.cut(of.tower.depth).units
    keep = torch.ones(2, actual.units.count)
    keep[:, 1] = 0.0
    torch.testing.assert_close(actual.scores[:, 1], of.value() - masker(of, actual.units)(keep), atol=1e-6, rtol=1e-4)


@linear.both_sides
@pytest.mark.parametrize("method", [Occlusion(), Shapley(512), Shapley(40)], ids=["occlusion", "exact", "sampled"])
def test_complete_methods_agree_on_a_linear_tower(method: Any, of: Side) -> None:
    torch.testing.assert_close(method(of).scores, linear.parts(of), atol=1e-4, rtol=1e-4)
