"""Tests of ``nibt.models._loaded``: what is kept with a model is dropped when its weights or its modules change."""

from copy import copy, deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

import nibt
from nibt.models._loaded import fingerprint
from nibt.models._loading import load_model
from tests import tiny


def net() -> nn.Module:
    """A net with a shared part, a buffer, and a part that is None."""
    torch.manual_seed(0)
    shared = nn.Linear(3, 3)
    module = nn.Sequential(shared, nn.Sequential(nn.BatchNorm1d(3), shared), nn.Linear(3, 2, bias=False))
    module.add_module("nothing", None)
    return module.eval()


@pytest.mark.parametrize("name", ["0.weight", "1.0.running_mean", "1.0.num_batches_tracked", "2.weight"])
def test_fingerprint_changes_with_any_tensor(name: str) -> None:
    module = net()
    before = fingerprint(module)
    assert fingerprint(module) == before
    with torch.no_grad():
        module.state_dict()[name].add_(1)
    assert fingerprint(module) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_fingerprint_changes_with_one_value_of_any_dtype(dtype: torch.dtype) -> None:
    module = nn.Module()
    module.register_buffer("b", torch.zeros(101).to(dtype))
    before = fingerprint(module)
    module.b.data[77] = 1
    assert fingerprint(module) != before


def test_fingerprint_changes_if_modules_are_replaced_or_swapped() -> None:
    module = net()
    before, kept = fingerprint(module), module[2]
    module[2] = deepcopy(kept)  # with equal weights
    assert fingerprint(module) != before
    module[2] = kept
    assert fingerprint(module) == before
    module[0], module[2] = module[2], module[0]
    assert fingerprint(module) != before


def test_a_change_of_one_value_is_noticed_by_the_next_call() -> None:
    """Neither the address nor the version of the tensor changes."""
    model = tiny.fresh("clip")
    before, explanation = model.weights_hash, nibt.explain(model, tiny.image(), "a cat")
    model.module.text_model.encoder.layers[1].mlp.fc1.weight.data[3, 5] += 5
    now = nibt.explain(model, tiny.image(), "a cat")
    assert now.model["weights_hash"] == model.weights_hash != before
    expected = nibt.explain(load_model(model.module, processor=model.request.processor), tiny.image(), "a cat")
    assert torch.equal(now.text.scores, expected.text.scores), "no state of the blank input is from before"
    assert not torch.equal(now.text.scores, explanation.text.scores)


PARTS = {
    "clip": ("vision_model.encoder.layers.1", "vision_model.post_layernorm", "visual_projection", "text_projection"),
    "own vit": ("visual.transformer.resblocks.1", "visual.ln_post", "transformer.resblocks.0", "ln_final"),
    "siglip": ("vision_model.encoder.layers.0", "vision_model.head", "text_model.final_layer_norm"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in PARTS.items() for name in names])
def test_a_module_that_is_replaced_after_loading_is_noticed(kind: str, name: str) -> None:
    model = tiny.fresh(kind)
    before = nibt.explain(model, tiny.image(), "a cat")
    holder, _, last = name.rpartition(".")
    replaced = deepcopy(model.module.get_submodule(name))
    for parameter in replaced.parameters():
        parameter.data = parameter.data.roll(1, 0) * 1.5
    setattr(model.module.get_submodule(holder), last, replaced)
    now = nibt.explain(model, tiny.image(), "a cat")
    fresh = load_model(model.module, processor=model.request.processor, tokenizer=model.request.tokenizer)
    expected = nibt.explain(fresh, tiny.image(), "a cat")
    assert now.similarity == expected.similarity != before.similarity
    assert torch.equal(now.image.grid, expected.image.grid)
    assert torch.equal(now.text.scores, expected.text.scores)
    assert now.model["weights_hash"] == expected.model["weights_hash"]


def test_copies_keep_their_own() -> None:
    model = tiny.fresh("clip")
    nibt.explain(model, tiny.image(), "a cat")
    again = deepcopy(model)
    assert again.image.blocks[0] is again.module.vision_model.encoder.layers[0]
    assert copy(model.image).blocks == model.image.blocks
    changed = replace(model, id="another")
    assert nibt.explain(changed, tiny.image(), "a cat").model["id"] == "another"
    assert nibt.explain(model, tiny.image(), "a cat").model["id"] == model.id
