"""Tests of ``nibt.methods.masks``."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nibt.core.perturbation import generator
from nibt.core.side import Side
from nibt.data.units import Grid, Words
from nibt.methods.masks import RISE, Occlusion, _upsample
from tests import linear, tiny
from tests.helpers import at_end, both_sides, make_side, varied_kinds


@both_sides
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit oblong", "bert"])
def test_rise_equals_its_formula(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    actual = RISE(6, share=0.3, cells=4, seed=3)(of)
    if modality == "text":
        stem, explained = of.stem(), of.units.explained
        rows = [generator(3, row).random(6) < 0.3 for row in range(explained.shape[1])]
        masks = torch.tensor(np.stack(rows, 1)).float()
        total = 0
        for mask in masks:
            state = stem.hidden * torch.where(explained, mask, torch.ones(()))[..., None]
            total = total + at_end(of, "zero", None, stem, state)[:, None] * mask
        wanted = torch.where(explained, total / (6 * 0.3), 0.0)
    else:
        pixels = of.inputs.values
        height, width = pixels.shape[-2:]  # 30 pixels of SigLIP are no multiple of 4 cells
        tall, wide = math.ceil(height / 4), math.ceil(width / 4)
        draws = generator(3)
        grids = torch.tensor(draws.random((6, 4, 4)) < 0.3).float()
        shifts = draws.integers(0, [tall, wide], (6, 2))
        total = torch.zeros(2, height, width)
        for grid, (top, left) in zip(grids, shifts, strict=True):
            large = F.interpolate(grid[None, None], (5 * tall, 5 * wide), mode="bilinear")[0, 0]
            mask = large[top : top + height, left : left + width]
            with torch.no_grad():
                total += (
                    of.score(
                        of.model.module.encode_image(pixels * mask)
                        if kind.startswith("own")
                        else of.tower.run(type(of.inputs)(pixels * mask))
                    )[:, None, None]
                    * mask
                )
        assert (actual.units.rows, actual.units.columns) == (16, 16)
        wanted = F.adaptive_avg_pool2d(total / (6 * 0.3), (16, 16)).flatten(1)
    torch.testing.assert_close(actual.scores, wanted, atol=1e-5, rtol=1e-4)


@both_sides
@varied_kinds
def test_rise_with_full_masks_gives_the_score_everywhere(kind: str, modality: str) -> None:
    of = make_side(tiny.model(kind), modality)
    actual = RISE(3, share=1.0)(of)
    everywhere = of.value()[:, None].expand_as(actual.scores)
    wanted = actual.units.keep(everywhere) if isinstance(actual.units, Words) else everywhere
    torch.testing.assert_close(actual.scores, wanted, atol=1e-6, rtol=1e-5)


def test_rise_on_a_linear_tower_approaches_occlusion() -> None:
    """With S = sum_s a_s m_s and independent masks, E[S m_t] / p = p sum_s a_s + (1 - p) a_t."""
    whole = linear.text_side([(3, 1, 4, 1, 5)])
    parts = Occlusion()(whole).scores[0, 1:]
    start = whole.value()[0] - parts.sum()  # always kept; without it fewer masks are enough
    of = Side(whole.model, whole.trace, lambda embedding: embedding[..., 0] - start)
    for share in (0.2, 0.5):
        actual = RISE(20_000, share=share)(of).scores[0, 1:]
        wanted = share * parts.sum() + (1 - share) * parts
        assert (actual - wanted).abs().max() < 0.1 * (wanted - wanted.mean()).abs().max()


@pytest.mark.parametrize(("height", "width"), [(224, 224), (30, 45)])
def test_masks_equal_the_authors_except_at_the_border_of_the_grid(height: int, width: int) -> None:
    """Theirs are resized by scikit-image, which mirrors the grid around the centers of its outermost cells."""
    transform = pytest.importorskip("skimage.transform", reason="the oracle is scikit-image")
    grids = torch.from_numpy(generator(4).random((5, 8, 8)) < 0.5).float()
    tall, wide = math.ceil(height / 8), math.ceil(width / 8)
    shifts = [[0, 0], [tall - 1, wide - 1], [tall // 2, 0], [1, wide // 3], [2, 2]]
    apart = []
    for grid, (top, left), mask in zip(grids, shifts, _upsample(grids, shifts, height, width).numpy(), strict=True):
        crops = {
            mode: transform.resize(grid.numpy(), (9 * tall, 9 * wide), order=1, mode=mode, anti_aliasing=False)[
                top : top + height, left : left + width
            ]
            for mode in ("edge", "reflect")
        }
        np.testing.assert_allclose(mask, crops["edge"], atol=1e-5)
        rows = (np.arange(height) + top + 0.5) * 8 / (9 * tall)  # in cells
        columns = (np.arange(width) + left + 0.5) * 8 / (9 * wide)
        inside = np.ix_((rows >= 0.5) & (rows <= 7.5), (columns >= 0.5) & (columns <= 7.5))
        np.testing.assert_allclose(mask[inside], crops["reflect"][inside], atol=1e-5)
        apart.append(np.abs(mask - crops["reflect"]).max())
    assert max(apart) > 0.1


def test_rise_map_is_as_fine_as_its_masks() -> None:
    """Averaging pixels over the squares loses nearly nothing of the map of pixels."""
    grids, shifts = RISE(500)._grids(224, 224)
    weights = torch.rand(500, generator=torch.Generator().manual_seed(1))
    pixels = (weights[:, None, None] * _upsample(grids, shifts, 224, 224)).sum(0)[None, None]
    back = F.interpolate(F.adaptive_avg_pool2d(pixels, (32, 32)), (224, 224), mode="bilinear")
    lost = (back - pixels).abs() / (pixels.max() - pixels.min())
    assert lost.mean() < 0.01
    assert lost.max() < 0.1
    assert RISE(2)(linear.image_side(1)).units == Grid(linear.ROWS * linear.PATCH, linear.COLUMNS * linear.PATCH)


def test_rise_masks_have_the_published_share_and_shifts() -> None:
    grids, shifts = RISE(6000)._grids(224, 448)
    assert grids.mean() == pytest.approx(0.1, abs=0.005)
    assert set(grids.unique().tolist()) == {0.0, 1.0}
    tops, lefts = zip(*shifts, strict=True)
    assert set(tops) == set(range(28))
    assert set(lefts) == set(range(56))


def test_rise_draws_as_many_masks_as_the_paper() -> None:
    for variant in ("default", "paper"):
        masks = {
            tower.modality: RISE.configured(tower, variant, {}, {})
            for tower in (tiny.model("clip").image, tiny.model("clip").text)
        }
        units = {"default": "words", "paper": "tower"}[variant]
        assert masks == {"image": RISE(6000, 0.1, 8, 0), "text": RISE(200, 0.1, 8, 0, units=units)}


@both_sides
def test_rise_scores_have_the_sign_of_the_score(modality: str) -> None:
    """Not the direction in which a unit moves it, so RISE does not declare a sign."""
    whole, method = make_side(tiny.model("clip"), modality), RISE(200)
    for constant in (10.0, -10.0):
        of = Side(whole.model, whole.trace, lambda embedding, add=constant: whole.score(embedding) + add)
        scores = method(of).scores
        assert scores.any()
        assert (constant * scores >= 0).all()
    assert not method.signed
