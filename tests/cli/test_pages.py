"""Tests of the pages that commands write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nibt
from nibt.results.regions import Regions
from tests import tiny
from tests.helpers import check_page, page_data


def test_explain_writes_one_page_for_all_pairs(run: Any, clip_folder: Path, tmp_path: Path) -> None:
    photo = tmp_path / "<img src=x onerror=alert(1)>.png"
    tiny.image(90, 60).pil_image.save(photo)
    code, out, _ = run(
        "explain",
        photo,
        "a red cat",
        "two cars",
        "-m",
        clip_folder,
        "-o",
        "x.html",
        "-o",
        "x.json",
        "--method",
        "nib steps=2",
    )
    assert code == 0
    assert "wrote x.html, x.json" in out
    panels = page_data(check_page(Path("x.html").read_text(encoding="utf-8")))["panels"]
    assert [panel["sides"][1]["caption"] for panel in panels] == ["a red cat", "two cars"]
    assert [len(panel["table"]["rows"]) for panel in panels] == [3, 2]
    assert len(json.loads(Path("x.json").read_text())) == 2
    again = nibt.regions(clip_folder, photo, "two cars", steps=2)
    assert isinstance(again, Regions)
    np.testing.assert_allclose(np.array(panels[1]["table"]["rows"]).reshape(2, 12, 12), again.table, rtol=5e-4)


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "grad_cam"],
        ["--target", "difference", "--against", "a car"],
        ["--method", "nib noise=unit samples=2"],
        ["--method", "nib views=2 steps=1"],
    ],
    ids=["another method", "another target", "noise", "views"],
)
def test_explain_writes_a_table_where_possible(run: Any, clip_folder: Path, tmp_path: Path, options: list[str]) -> None:
    tiny.image(90, 60).pil_image.save(tmp_path / "photo.png")
    code, _, err = run("explain", tmp_path / "photo.png", "a red cat", "-m", clip_folder, "-o", "x.html", *options)
    assert code == 0, err
    (panel,) = page_data(check_page(Path("x.html").read_text(encoding="utf-8")))["panels"]
    assert (panel["table"] is None) == ("views" not in options[1])


@pytest.mark.slow
def test_regions_and_compare_write_pages(run: Any, clip_folder: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    tiny.image(90, 60).pil_image.save(photo)
    assert (
        run(
            "regions",
            photo,
            "a red cat",
            "-m",
            clip_folder,
            "-o",
            "i.html",
            "--method",
            "nib steps=1",
            "--draw",
            "positive_only=true",
        )[0]
        == 0
    )
    data = page_data(check_page(Path("i.html").read_text(encoding="utf-8")))
    assert data["positive_only"] is True
    assert (
        run("explain", photo, "--compare", photo, "-m", clip_folder, "-o", "c.html", "-q", "--method", "nib steps=1")[0]
        == 0
    )
    check_page(Path("c.html").read_text(encoding="utf-8"))
    code, _, err = run("explain", photo, "a cat", "-m", clip_folder, "-o", "x.htm")
    assert code == 2
    assert ".png, .tif (got '.htm')" in err
    code, _, err = run("explain", photo, "a cat", "-m", clip_folder, "-o", "x.html", "-o", "x.html")
    assert code == 2


def test_explain_rejects_an_ending_without_a_format(run: Any, clip_folder: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    tiny.image(90, 60).pil_image.save(photo)
    code, _, err = run("explain", photo, "a red cat", "-m", clip_folder, "-o", "c.foo")
    assert code == 2
    assert "'c.foo' must end in the name of a format" in err
