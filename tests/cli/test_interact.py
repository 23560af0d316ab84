"""Tests of ``nibt.cli.interact``."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import Run, list_folder


def test_interact_writes_a_map_for_each_word(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, _ = run("interact", photo, "a red cat", "-m", clip_folder, "--steps", 2, "--image-layer", 1)
    assert code == 0
    name = "photo-a-red-cat.interact.clip.image-layer-1.steps-2"
    assert list_folder() == [f"{name}.json", f"{name}.png"]
    data = json.loads(Path(f"{name}.json").read_text())
    assert data["kind"] == "interaction"
    assert np.array(data["table"]).shape == (3, 12, 12)
    assert data["gap"] == pytest.approx(data["product"] - data["sum"], abs=1e-6)
    firsts = [line.split()[0] for line in out.splitlines()]
    head = firsts.index("word")
    assert firsts[head + 1 : head + 4] == ["a", "red", "cat"]
    with Image.open(f"{name}.png") as page:
        assert page.width > 600
        pixels = np.asarray(page.convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=-1) > 60).any()  # colors on the gray photograph
    code, _, err = run("interact", photo, "-m", clip_folder)
    assert code == 2
    assert "nibt interact IMAGE CAPTION" in err


def test_interact_writes_several_pairs_as_json(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, err = run("interact", photo, "a cat", "two cars", "-m", clip_folder, "--steps", 1, "--json", "-")
    assert code == 0
    assert [entry["caption"] for entry in json.loads(out)] == ["a cat", "two cars"]
    assert "wrote" not in err
    assert list_folder() == []


def test_interact_shows_tables_of_several_methods_on_a_page(run: Run, photo: Path, clip_folder: Path) -> None:
    arguments = ("interact", photo, "a red cat", "-m", clip_folder, "--method", "occlusion")
    code, _, err = run(*arguments, "--method", "banzhaf budget=16 share=0.3", "--out", "both.html")
    assert code == 0, err
    page = Path("both.html").read_text()
    assert "banzhaf budget=16 share=0.3" in page
    first, second = json.loads(Path("both.json").read_text())
    assert first["method"]["name"] == "occlusion"
    assert second["method"]["image"]["budget"] == 16
    assert second["method"]["image"]["share"] == 0.3
    code, _, err = run(*arguments, "--method", "nib")
    assert code == 2
    assert "2 methods need a page: give --out x.html" in err


@pytest.mark.slow
def test_interact_draws_the_strongest_links(run: Run, photo: Path, clip_folder: Path) -> None:
    arguments = ("interact", photo, "a red cat", "-m", clip_folder, "--method", "occlusion")
    code, out, err = run(*arguments, "--links", "links.pdf", "--top", 4)
    assert code == 0, err
    assert "links.pdf" in out
    assert Path("links.pdf").read_bytes().startswith(b"%PDF")
    before = list_folder()
    code, _, err = run(*arguments, "--out", "other.png", "--links", "other.pdf", "--box", "5000,0,9,9")
    assert code == 1
    assert "the box must have the center of a part" in err
    assert list_folder() == before, "nothing is written"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "banzaf"), "Did you mean 'banzhaf'"),
        (("--method", "banzhaf 3"), r"options of a method must be name=value"),
        (("--method", "banzhaf budget=x"), "budget must be a whole number"),
        (("--top", 0), "top must be between 1 and 10,000"),
        (("--box", "1,2,3"), "--box must be four whole numbers"),
        (("--box", "1,2,0,4"), "positive width and height"),
        (("--links", "x.pdf", "--method", "nib", "--method", "gae", "--out", "x.html"), "--links needs one image"),
    ],
)
def test_interact_refuses_bad_options(
    run: Run, photo: Path, clip_folder: Path, options: tuple[object, ...], message: str
) -> None:
    code, _, err = run("interact", photo, "a red cat", "-m", clip_folder, *options)
    assert code == 2
    assert message in err
    assert list_folder() == []


def test_interact_never_replaces_the_segments(run: Run, photo: Path, clip_folder: Path) -> None:
    with Image.open(photo) as opened:
        labels = np.arange(opened.width * opened.height).reshape(opened.height, opened.width) // 999
    np.save(f"{photo.stem}.npy", labels)
    before = Path(f"{photo.stem}.npy").read_bytes()
    method = "occlusion units=segments:{stem}.npy"
    arguments = ("interact", photo, "a cat", "-m", clip_folder, "--method", method, "--overwrite")
    for output in ("--json", "--links"):
        code, _, err = run(*arguments, output, f"{photo.stem}.npy")
        assert code == 2, err
    code, _, err = run(*arguments, "--json", f"{photo.stem}.npy")
    assert "is an input of this call" in err
    explain = ("explain", photo, "a cat", "-m", clip_folder, "--method", "occlusion", "--overwrite")
    code, _, err = run(*explain, "--units", "segments:{stem}.npy", "--json", f"{photo.stem}.npy")
    assert (code, "is an input of this call" in err) == (2, True)
    assert Path(f"{photo.stem}.npy").read_bytes() == before


def test_interact_refuses_the_name_of_links_before_it_writes(run: Run, photo: Path, clip_folder: Path) -> None:
    before = list_folder()
    code, _, err = run("interact", photo, "a cat", "-m", clip_folder, "--links", "links.txt")
    assert (code, list_folder()) == (2, before)
    assert "must end in the name of an image format" in err


def test_interact_takes_spaces_around_a_method(run: Run, photo: Path, clip_folder: Path) -> None:
    code, _, err = run("interact", photo, "a cat", "-m", clip_folder, "--method", " occlusion ", "--json", "-")
    assert code == 0, err


def test_interact_refuses_options_of_links_without_links(run: Run, photo: Path, clip_folder: Path) -> None:
    for option in (("--box", "0,0,9,9"), ("--top", 3)):
        code, _, err = run("interact", photo, "a cat", "-m", clip_folder, *option)
        assert (code, "give --links x.pdf" in err) == (2, True)
