"""Tests of ``nibt.app.request``."""

from pathlib import Path

import httpx
import pytest
from PIL import Image

from nibt.app.request import Link
from nibt.data.images import sample_file
from tests.app.requests import make_request


@pytest.mark.parametrize("mode", ["contrast", "images"])
def test_link_repeats_the_request(mode: str) -> None:
    captions, against = ("a cup & <b>\nü", None) if mode == "contrast" else ("a cup & <b>", sample_file("chelsea"))
    request = make_request(captions, mode, ("nib", "grad_cam"), against=against)
    link = Link.of(request)
    assert link is not None
    assert Link.from_query(dict(httpx.QueryParams(link.query)), ["lite", "scenes"], 100) == link


def test_link_leaves_out_uploaded_images(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "mine.png")
    assert Link.of(make_request(file=tmp_path / "mine.png")) is None
    assert Link.of(make_request(mode="images", against=tmp_path / "mine.png")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"image": "../x"},
        {"model": "other"},
        {"methods": "nib,x"},
        {"variant": "y"},
        {"mode": "z"},
        {"captions": " "},
        {"mode": "images"},
        {"mode": "images", "against": "../x"},
        {"against": "chelsea"},
    ],
)
def test_link_with_unknown_values_is_ignored(change: dict[str, str]) -> None:
    good = {"image": "coffee", "captions": "a cup"}
    assert Link.from_query(good, ["lite"], 100) is not None
    assert Link.from_query({**good, **change}, ["lite"], 100) is None
