"""Tests of ``nibt.report.image.curve`` and ``nibt.report.image.plot``."""

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.errors import BadInput
from nibt.report.colors import PALETTES
from nibt.report.html.page import page
from nibt.report.html.view import Panel
from nibt.report.image.curve import draw_curve
from nibt.report.image.plot import Axis, Line, plot
from tests import tiny
from tests.helpers import check_page

RED = (222, 45, 38)


def columns_of(image: Image.Image, color: tuple[int, int, int]) -> dict[int, float]:
    """Return the mean row of a color in each column below the legend."""
    own = (np.abs(np.asarray(image).astype(int) - color).sum(-1) < 60) & (np.arange(image.height) > 36)[:, None]
    return {int(column): float(np.flatnonzero(own[:, column]).mean()) for column in np.flatnonzero(own.any(0))}


@pytest.mark.parametrize("log", [False, True])
def test_plot_has_its_values_at_their_places(log: bool) -> None:
    """A straight line from corner to corner of the axes, for powers of ten on logarithmic ones."""
    values = [10.0**power for power in range(-3, 1)] if log else [0.0, 1.0, 2.0, 3.0]
    rows = columns_of(plot([Line("", RED, values, values)], "title", "across", log), RED)
    places = np.array(sorted(rows))
    down = np.array([rows[place] for place in places])
    slope, intercept = np.polyfit(places, down, 1)
    assert slope < 0
    assert np.abs(down - slope * places - intercept).max() < 2.5
    assert places.max() - places.min() > 350
    assert down.max() - down.min() > 200


def test_axes_have_round_ticks() -> None:
    assert Axis(0.0, 1.0, 0, 100).ticks == pytest.approx([0, 0.5, 1.0])
    assert Axis(-0.03, 0.31, 0, 100).ticks == pytest.approx([0, 0.1, 0.2, 0.3])
    assert Axis(0.0, 540.0, 0, 100).ticks == pytest.approx([0, 200, 400])
    assert Axis(1e-4, 1.0, 0, 100, log=True).ticks == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert Axis(2.0, 4.0, 10, 110).at(3.0) == 60
    assert Axis(1.0, 100.0, 10, 110, log=True).at(10.0) == 60
    assert Axis.of([3.0, 3.0], 0, 100).at(3.0) == 50


def test_curve_has_a_line_for_each_side_in_both_plots() -> None:
    curve = nibt.narrowing_curve(tiny.model("clip"), tiny.image(), "a cat", points=5, samples=2)
    image = draw_curve(curve)
    for color in (PALETTES["red_blue"].positive, PALETTES["red_blue"].negative):
        places = columns_of(image, color)
        assert min(places) < image.width / 2 < max(places)


def test_curve_without_noise_has_no_plot_by_information() -> None:
    curve = nibt.narrowing_curve(tiny.model("clip"), tiny.image(), "a cat", points=5, noise="none", side="image")
    image = draw_curve(curve)
    red = columns_of(image, RED)
    assert max(red) - min(red) < image.width / 2
    assert not columns_of(image, PALETTES["red_blue"].negative)


def test_flat_curve_is_drawn() -> None:
    assert columns_of(plot([Line("flat", RED, (0.0, 1.0), (0.3, 0.3))], "", ""), RED)


def test_page_has_the_curve_in_its_details() -> None:
    model, image = tiny.model("clip"), tiny.image()
    answer = nibt.explain(model, image, "a cat", steps=2)
    curve = nibt.narrowing_curve(model, image, "a cat", points=3, samples=2)
    text = check_page(page(Panel(answer, curve=curve)))
    before, _, details = text.partition("<summary>Details</summary>")
    assert "narrowing curve: image from" in details
    assert "narrowing curve" not in before
    assert "narrowing curve" not in page(Panel(answer))
    other = nibt.narrowing_curve(model, image, "a dog", points=3, samples=2)
    with pytest.raises(BadInput, match="the curve must be of the pair of the answer"):
        Panel(answer, curve=other)
