"""Tests of ``nibt.evaluation.roar.inputs``."""

import numpy as np
import pytest
import torch

from nibt.evaluation.roar.inputs import TowerInputs, count_above, filled, highest, removed_pixels, removed_units
from tests import tiny


@pytest.mark.parametrize(
    ("count", "percentile"), [(1, 90), (2, 90), (11, 90), (12, 90), (31, 90), (16, 75), (4096, 75)]
)
def test_above_counts_the_numbers_above_the_percentile(count: int, percentile: int) -> None:
    numbers = np.random.default_rng(0).permutation(count).astype(float)
    assert count_above(count, percentile) == max(1, int((numbers > np.percentile(numbers, percentile)).sum()))


def test_highest_breaks_ties_by_the_other_map() -> None:
    scores, ties = np.array([2.0, 1.0, 1.0, 1.0, -5.0]), np.array([0.0, 0.1, 0.9, 0.1, 1.0])
    assert highest(scores, ties, 1).tolist() == [True, False, False, False, False]
    assert highest(scores, ties, 2).tolist() == [True, False, True, False, False]
    assert highest(scores, ties, 3).tolist() == [True, True, True, False, False]
    assert highest(np.zeros(3), np.zeros(3), 2).tolist() == [True, True, False]


def test_hidden_pixels_of_a_known_map() -> None:
    """Stretched over 4 x 4, the corner of the highest unit has 0.75^2 + ... of it: a quarter of 16 pixels is above."""
    grid = np.array([[0.0, 0.0], [0.0, 1.0]])
    rows = np.array([0.0, 0.25, 0.75, 1.0])  # the weight of the second unit along a line of four pixels
    stretched = rows[:, None] * rows[None]
    removed = removed_pixels(grid, np.zeros((2, 2)), (4, 4), 75)
    assert removed.sum() == 4
    assert np.array_equal(removed, stretched >= np.sort(stretched.ravel())[-4])


def test_hidden_pixels_of_a_flat_map_follow_the_other_map() -> None:
    ties = np.random.default_rng(0).random((4, 4))
    flat = removed_pixels(np.full((4, 4), 0.3), ties, (30, 30), 75)
    assert np.array_equal(flat, removed_pixels(ties, np.zeros((4, 4)), (30, 30), 75))


@pytest.mark.parametrize("kind", ["clip", "clip legacy end", "siglip", "coca", "bert"])
def test_hidden_takes_the_highest_words_and_no_special_tokens(kind: str) -> None:
    tower = tiny.model(kind).text
    inputs = tower.prepare(["a photo of a cat and a dog", "cat"])
    assert inputs.words is not None
    counts = inputs.words.explained.sum(1).tolist()
    scores = [np.arange(count, dtype=float) for count in counts]
    removed = removed_units(tower, inputs, scores, 90, 0)
    assert not (removed & ~inputs.words.explained).any()
    for row, count in zip(removed, counts, strict=True):
        assert int(row.sum()) == count_above(count, 90)
    assert removed[1].nonzero().max() == inputs.words.explained[1].nonzero().max()
    part = TowerInputs.of(tower, ["a photo of a cat and a dog", "cat"]).without(tower, scores, 90, 0).groups[0]
    embedding = part.apply(tower, tower.encode)
    with tower.blend_to_padding((~removed).float()):
        assert torch.equal(embedding, tower.encode(inputs))


@pytest.mark.parametrize("kind", ["clip", "siglip naflex", "own vit oblong", "resnet"])
def test_filled_replaces_pixels_by_the_means_of_the_image(kind: str) -> None:
    tower = tiny.model(kind).image
    inputs = tower.prepare([tiny.image(seed=1), tiny.image(seed=2)])
    removed = torch.zeros(2, *tower.extent(inputs), dtype=torch.bool)
    assert torch.equal(filled(tower, inputs, removed).values, inputs.values)
    all_gone = filled(tower, inputs, ~removed)
    flat = filled(tower, all_gone, ~removed)
    torch.testing.assert_close(flat.values, all_gone.values)  # the mean of means is the mean
    if inputs.values.ndim == 4:
        torch.testing.assert_close(all_gone.values, inputs.values.mean((2, 3), keepdim=True).expand_as(inputs.values))
    removed[:, :8, :8] = True
    assert not torch.equal(filled(tower, inputs, removed).values, inputs.values)
