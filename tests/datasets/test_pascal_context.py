"""Tests of ``nibt.datasets.segmentation``."""

from pathlib import Path

import numpy as np

from nibt.datasets.segmentation import PascalContext
from tests.datasets.layouts import captions, halves, pascal_context


def test_labels_are_in_the_order_of_the_converter(tmp_path: Path) -> None:
    pascal_context(tmp_path)
    data = PascalContext(tmp_path)
    assert captions(data) == ["a photo of an airplane", "a photo of a platform"]
    assert [data.labels[place] for place in (0, 1, 39, 59)] == ["background", "airplane", "platform", "wood"]
    assert list(PascalContext.kinds) == sorted(PascalContext.kinds)
    np.testing.assert_array_equal(data[0].label_map, halves(1, 0, 0))  # pyright: ignore
    assert "lacks VOCdevkit/VOC2010" in PascalContext.check(tmp_path / "VOCdevkit/VOC2010/JPEGImages")


def test_background_may_be_ignored(tmp_path: Path) -> None:
    pascal_context(tmp_path)
    data = PascalContext(tmp_path, background=False)
    assert len(data.labels) == 59
    np.testing.assert_array_equal(data[0].label_map, halves(0, -1, -1))  # pyright: ignore
