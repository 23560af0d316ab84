"""Tests of ``nibt.models._stamp``."""

import pytest
import torch
from torch import nn

from nibt.models._stamp import _tensors, weights_stamp


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
