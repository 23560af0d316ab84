"""The learned price equals a perceptron of torch, trained for each item alone: python -m pytest recipes/adaib."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nibt.core.perturbation import generator
from nibt.methods.m2ib import M2IB
from tests import tiny
from tests.helpers import both_sides, make_side
from tests.methods.test_pair_weights import item_by_item

sys.path.insert(0, str(Path(__file__).parent))
from learned import Perceptron, clipped, learned_map


def network(draws):
    """The perceptron as modules of torch, with the weights of ``draws``."""
    net = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 1), nn.ReLU())
    with torch.no_grad():
        for parameter, bound in zip(net.parameters(), (1, 1, 32**-0.5, 32**-0.5), strict=True):
            parameter.copy_(torch.tensor(draws.uniform(-bound, bound, parameter.numel())).reshape(parameter.shape))
    return net


@both_sides
@pytest.mark.parametrize("kind", ["euclidean", "softplus"])
def test_learned_map_equals_its_loss_item_by_item(kind, modality):
    """The optimizer, the clipping and the perceptron of torch, with one item and one noisy state at a time."""
    of, samples, seed = make_side(tiny.model("clip"), modality), 3, 3

    def price(fit):
        net = network(generator(seed, 0, 1))
        return [*net.parameters()], lambda: net(fit.reshape(1))[0]

    wanted = item_by_item(of, kind, samples, seed, price)
    scores, prices = learned_map(M2IB((1,), steps=3, samples=samples, seed=seed, pair_weight=kind, clip=1.0), of)
    torch.testing.assert_close(scores, wanted, rtol=5e-3, atol=1e-3 * float(wanted.max()))
    assert prices.shape == (3, 2)


@pytest.mark.parametrize("factor", [0.1, 1.0, 30.0])
def test_clipped_gradients_have_at_most_the_norm(factor):
    """As torch clips the parameters of each item alone."""
    draws = torch.Generator().manual_seed(0)
    gradients = [factor * torch.randn(3, *shape, generator=draws) for shape in ((4, 5), (7,))]
    actual = clipped(gradients, 2.0)
    for item in range(3):
        alone = [nn.Parameter(gradient[item]) for gradient in gradients]
        for parameter in alone:
            parameter.grad = parameter.detach().clone()
        nn.utils.clip_grad_norm_(alone, 2.0)
        for gradient, parameter in zip(actual, alone, strict=True):
            torch.testing.assert_close(gradient[item], parameter.grad)


def test_perceptron_starts_alike_for_all_items():
    prices = Perceptron(torch.tensor([0.7, 0.7, 0.9]), 0)()
    assert prices[0] == prices[1] != prices[2]
    assert (prices >= 0).all()
    assert Perceptron(torch.tensor([0.7]), 1)() != prices[0]
