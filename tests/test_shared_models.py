"""Tests of the check that no test changes a model that all tests share."""

from tests import tiny
from tests.shared_models import changed, shared


def test_changed_model_is_reported_once() -> None:
    model = shared(tiny.fresh)("clip")
    assert changed() == []
    model.module.visual_projection.weight.requires_grad_(False)
    assert changed() == ["tests.tiny clip"]
    assert changed() == []


def test_replaced_module_is_reported() -> None:
    module = shared(tiny.fresh)("siglip").module
    module.get_submodule("vision_model.encoder.layers.0.mlp").fc1 = module.vision_model.encoder.layers[1].mlp.fc1
    assert changed() == ["tests.tiny siglip"]
