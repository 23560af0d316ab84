"""Tests of ``nibt.models._loaded``."""

import pytest
import torch
from torch import nn

import nibt
from nibt.models._loaded import _tensors, renew, weights_stamp
from nibt.models._loading import load_model
from tests import tiny


def net() -> nn.Module:
    """A net with a shared part, a buffer, and a part that is None."""
    torch.manual_seed(0)
    shared = nn.Linear(3, 3)
    module = nn.Sequential(shared, nn.Sequential(nn.BatchNorm1d(3), shared), nn.Linear(3, 2, bias=False))
    module.add_module("nothing", None)
    return module.eval()


def test_all_parameters_and_buffers_are_covered() -> None:
    module = net()
    expected = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    assert {id(tensor) for tensor in _tensors(module)} == expected


@pytest.mark.parametrize("name", ["0.weight", "1.0.running_mean", "2.weight"])
def test_stamp_changes_with_any_tensor(name: str) -> None:
    module = net()
    before = weights_stamp(module)
    assert weights_stamp(module) == before
    with torch.no_grad():
        module.state_dict()[name].add_(1)
    assert weights_stamp(module) != before


def test_stamp_changes_if_a_part_is_replaced() -> None:
    module = net()
    before = weights_stamp(module)
    module[2] = nn.Linear(3, 2, bias=False)
    assert weights_stamp(module) != before


def test_a_change_of_one_value_that_no_sample_has_is_noticed() -> None:
    """Neither the address nor the version nor the sampled values of the tensor change."""
    model = tiny.fresh("clip")
    weight = model.module.text_model.encoder.layers[1].mlp.fc1.weight
    before, answer = model.weights_hash, nibt.explain(model, tiny.image(), "a cat")
    stamp = weights_stamp(model.module)
    weight.data[3, 5] += 5
    assert weights_stamp(model.module) == stamp, "a sample has it: choose another value"
    now = nibt.explain(model, tiny.image(), "a cat")
    assert now.model["weights_hash"] == model.weights_hash != before
    expected = nibt.explain(load_model(model.module, processor=model.request.processor), tiny.image(), "a cat")
    assert torch.equal(now.text.scores, expected.text.scores), "no state of the blank input is from before"
    assert not torch.equal(now.text.scores, answer.text.scores)


def test_sums_notice_changes_of_any_dtype() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool):
        module = nn.Module()
        module.register_buffer("b", torch.zeros(101).to(dtype))
        renew(module)
        before = weights_stamp(module)
        renew(module)
        assert weights_stamp(module) == before
        module.b.data[77] = 1
        renew(module)
        assert weights_stamp(module) != before
