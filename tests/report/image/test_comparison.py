"""Tests of pictures of comparisons."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.images import ImageInput
from nibt.errors import BadInput
from nibt.report.image.heatmap import Mapped, score_map
from tests import tiny
from tests.helpers import compare
from tests.suites import few

CAPTIONS = [nibt.Caption(text) for text in tiny.CAPTIONS]


def test_comparison_sides_can_be_drawn_as_heatmaps() -> None:
    answer = compare("clip", tiny.IMAGES[0], tiny.IMAGES[1])
    assert isinstance(answer.first, Mapped)
    assert score_map(answer.second).shape == (30, 90)


def colourful(page: Image.Image) -> bool:
    return bool((np.ptp(np.asarray(page.convert("RGB")).astype(int), axis=-1) > 60).any())


@pytest.mark.parametrize("positive_only", few([False, True], [True]))
def test_draw_of_two_images_puts_them_in_two_columns(positive_only: bool, tmp_path: Path) -> None:
    grey = [ImageInput(Image.new("RGB", size, (128,) * 3), "grey") for size in ((640, 480), (300, 3), (20, 700))]
    for first, second in combinations(grey, 2):
        answer = compare("clip", first, second)
        page = nibt.draw(answer, positive_only)
        column = max(round(460 * image.size[0] / max(image.size)) for image in (first, second))
        assert page.width == max(2 * column + 24, 560) + 48
        assert page.height < 1400
        assert colourful(page)
    answer.save(tmp_path / "x.json")
    with pytest.raises(BadInput, match="no longer there"):
        nibt.draw(nibt.Explanation.load(tmp_path / "x.json"))


def test_draw_of_two_captions_grows_with_their_length() -> None:
    short = nibt.draw(compare("clip", CAPTIONS[0], CAPTIONS[1]))
    long = nibt.draw(compare("clip", CAPTIONS[0], "a cat " * 40))
    assert short.width == long.width == 808
    assert short.height < long.height
    assert colourful(short)
