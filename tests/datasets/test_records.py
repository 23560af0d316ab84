"""Tests of ``nibt.datasets._records``."""

from pathlib import Path
from typing import Any

import pytest

from nibt.datasets._records import RecordDataset, shuffled, whole_box
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput
from nibt.registry import available, find
from tests.datasets.layouts import SIDES


def test_shuffled_is_the_same_everywhere() -> None:
    assert shuffled([*"abcdefgh"], 0) == [*"hedcgafb"]


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((0.4, 0.6, 3.0, 2.0), (0, 1, 3, 2)),
        ((3.2, 3.2, 0.1, 0.0), (3, 3, 1, 1)),
        ((8.0, 6.0, 0.0, 0.0), (7, 5, 1, 1)),
        ((-1.0, -1.0, 10.0, 8.0), (0, 0, 8, 6)),
    ],
)
def test_whole_box_rounds_to_the_nearest_pixels(box: tuple[float, ...], whole: tuple[int, ...]) -> None:
    assert whole_box(box, SIDES, "x") == whole  # pyright: ignore


FILES = [name for name in available("datasets") if issubclass(find("datasets", name), RecordDataset)]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("folder", [3, None, b"x", ["a", "b"], "", "a\0b"])
@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_is_no_path_is_refused(name: str, folder: Any) -> None:
    with pytest.raises(BadInput, match="folder must "):
        find("datasets", name)(folder)


def test_images_in_a_folder_that_does_not_exist_are_refused(tmp_path: Path) -> None:
    data = find("datasets", "image_folder")(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="cannot be read as a folder of images"):
        list(data)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("position", [slice(0, 1), "a", 1.5, None])
def test_a_position_is_a_whole_number(position: Any) -> None:
    with pytest.raises(BadInput, match="the position of a pair must be a whole number"):
        Scenes(count=2)[position]
    with pytest.raises(IndexError):
        Scenes(count=2)[2]
