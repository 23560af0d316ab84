"""Tests of ``nibt.report.colors``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nibt.report.colors import COVER, PALETTES, PAPER, from_oklab, ink_on, on_paper, tint, to_oklab

Channel = st.integers(0, 255)


@given(st.tuples(Channel, Channel, Channel))
def test_oklab_and_back_is_the_same_color(color: tuple[int, int, int]) -> None:
    assert from_oklab(to_oklab(np.array(color))).tolist() == list(color)


def test_oklab_of_red_is_the_published_one() -> None:
    assert to_oklab(np.array((255, 0, 0))) == pytest.approx([0.6280, 0.2249, 0.1258], abs=1e-4)
    assert to_oklab(np.array(PAPER)) == pytest.approx([1, 0, 0], abs=1e-4)


@pytest.mark.parametrize("name", sorted(PALETTES))
def test_scale_is_even_and_symmetric(name: str) -> None:
    palette = PALETTES[name]
    shares = (0.25, 0.5, 0.75, 1.0)
    distances = [np.linalg.norm(to_oklab(on_paper(share, palette)) - to_oklab(np.array(PAPER))) for share in shares]
    assert np.diff(distances) == pytest.approx([distances[0]] * 3, rel=0.1)
    full = np.linalg.norm(to_oklab(np.array(palette.positive)) - to_oklab(np.array(PAPER)))
    assert distances[-1] == pytest.approx(COVER * full, rel=0.02)
    assert on_paper(0.0, palette).tolist() == list(PAPER)


@pytest.mark.parametrize("name", sorted(PALETTES))
def test_tint_keeps_the_order_of_grays_and_has_no_color_at_zero(name: str) -> None:
    grays = np.arange(256, dtype=np.uint8)[None]
    for share in (-1.0, -0.4, 0.0, 0.7, 1.0):
        colors = tint(grays, np.full((1, 256), share), PALETTES[name])
        lightness = to_oklab(colors)[0, :, 0]
        assert (np.diff(lightness) > -0.004).all()  # a step of 8 bits
        assert lightness[-1] - lightness[0] > 0.2
    assert not np.ptp(tint(grays, np.zeros((1, 256)), PALETTES[name]), axis=2).any()


def test_ink_is_black_or_white() -> None:
    assert ink_on((255, 255, 255)) == (0, 0, 0)
    assert ink_on((0, 0, 0)) == (255, 255, 255)
