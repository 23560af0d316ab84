"""Tests of ``nibt.metrics.sensitivity``."""

import pytest
import torch
from scipy.stats import spearmanr

import nibt
from nibt.evaluation.context import OTHER_CAPTIONS, other_caption
from nibt.metrics.sensitivity import _spearman
from tests import tiny
from tests.metrics.known_maps import FIRST, on
from tests.metrics.linear_maps import pairs, values


def test_mismatch_is_the_correlation_with_the_map_of_another_caption() -> None:
    model, data = tiny.model("clip"), pairs()
    measured = values(model, data, "mismatch", method="grad_eclip", side="image")
    for pair, value in zip(data, measured, strict=True):
        maps = [
            nibt.explain(model, pair.image, caption, method="grad_eclip").image.grid.flatten()
            for caption in (pair.caption, other_caption(pair.caption))
        ]
        assert value == pytest.approx(spearmanr(*maps).statistic, abs=1e-3)
    assert values(model, data, "mismatch", method="grad_eclip", side="image", batch_size=1) == pytest.approx(measured)


def test_mismatch_of_maps_that_ignore_the_caption_is_one() -> None:
    for method in ("ones", "center"):
        assert values(tiny.model("clip"), pairs(), "mismatch", method=method, side="image") == [1, 1, 1]
    metric = nibt.measure(tiny.model("clip"), pairs(1), ["mismatch"], "nib")
    assert [row.side for row in metric] == ["image"]


def test_mismatch_without_a_method_is_unknown() -> None:
    from nibt.metrics.sensitivity import Mismatch

    assert Mismatch()(on(FIRST)).isnan().all()


def test_spearman_of_equal_scores() -> None:
    one, other = torch.tensor([1.0, 1, 2, 0]), torch.tensor([5.0, 6, 6, 1])
    assert _spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert _spearman(one, -one) == pytest.approx(-1)
    assert _spearman(one, one.exp()) == pytest.approx(1)
    flat = torch.ones(4)
    assert (_spearman(flat, flat), _spearman(flat, one)) == (1, 0)


def test_other_caption_depends_on_the_caption_only_and_shares_no_word() -> None:
    captions = [*OTHER_CAPTIONS, *tiny.CAPTIONS, "A dog, a cat and the train!", "dogs"]
    for caption in captions:
        other = other_caption(caption)
        assert other == other_caption(caption)
        assert other in OTHER_CAPTIONS
        shared = {word.strip(",!").lower() for word in caption.split()} & set(other.split())
        assert shared <= {"a", "the", "of", "on", "and", "an"}, (caption, other)
    assert len({other_caption(f"picture {number}") for number in range(60)}) > 6
    everything = " ".join(OTHER_CAPTIONS)
    assert other_caption(everything) in OTHER_CAPTIONS
