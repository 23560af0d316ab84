"""Tests of ``nibt.metrics.intrinsic``."""

import pytest
import torch

from tests.metrics.known_maps import block, caption_input, of, on


def test_sparseness_of_known_maps() -> None:
    assert of("sparseness", on(torch.ones(4, 4))) == pytest.approx(0)
    assert of("sparseness", on(block(slice(1, 2), slice(2, 3)))) == pytest.approx(15 / 16), "one of 16 patches has all"
    assert of("sparseness", on(block(slice(0, 1), slice(0, 4)))) == pytest.approx(12 / 16), "k equal ones have 1 - k/n"
    assert of("sparseness", on(torch.zeros(4, 4))) == 0
    scores = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    sizes = scores.abs().flatten().double()
    mean_difference = (sizes[:, None] - sizes).abs().mean()  # the definition by Gini
    assert of("sparseness", on(scores)) == pytest.approx(float(mean_difference / (2 * sizes.mean())))
    assert of("sparseness", on(-7 * scores)) == pytest.approx(of("sparseness", on(scores)))


def test_sparseness_of_captions_is_that_of_words() -> None:
    assert of("sparseness", caption_input([0, 5, 0], [True, False, False])) == pytest.approx(2 / 3)
    assert of("sparseness", caption_input([2, 2, -2], [True, False, False])) == pytest.approx(0)
