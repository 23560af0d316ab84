"""Tests of ``nibt.cli.commands.explain``."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import Run, list_folder


def test_regions_writes_a_map_for_each_word(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, _ = run("regions", photo, "a red cat", "-m", clip_folder, "--method", "nib image_layer=1 steps=2")
    assert code == 0
    name = "photo-a-red-cat.regions.image_layer-1.steps-2.clip"
    assert list_folder() == [f"{name}.json", f"{name}.png"]
    data = json.loads(Path(f"{name}.json").read_text())
    assert data["kind"] == "regions"
    assert np.array(data["table"]).shape == (3, 12, 12)
    assert data["gap"] == pytest.approx(data["product"] - data["sum"], abs=1e-6)
    firsts = [line.split()[0] for line in out.splitlines()]
    head = firsts.index("word")
    assert firsts[head + 1 : head + 4] == ["a", "red", "cat"]
    with Image.open(f"{name}.png") as page:
        assert page.width > 600
        pixels = np.asarray(page.convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=-1) > 60).any()  # colors on the gray photograph
    code, _, err = run("regions", photo, "-m", clip_folder)
    assert code == 2
    assert "nibt regions IMAGE CAPTION" in err


def test_regions_writes_several_pairs_as_json(run: Run, photo: Path, clip_folder: Path) -> None:
    code, out, err = run("regions", photo, "a cat", "two cars", "-m", clip_folder, "--method", "nib steps=1", "-o", "-")
    assert code == 0
    assert [entry["caption"] for entry in json.loads(out)] == ["a cat", "two cars"]
    assert "wrote" not in err
    assert list_folder() == []


def test_regions_shows_tables_of_several_methods_on_a_page(run: Run, photo: Path, clip_folder: Path) -> None:
    arguments = ("regions", photo, "a red cat", "-m", clip_folder, "--method", "occlusion")
    code, out, err = run(*arguments, "--method", "banzhaf budget=16 share=0.3", "-o", "both.html", "-o", "both.json")
    assert code == 0, err
    titles = [line for line in out.splitlines() if "  similarity" in line]
    assert [title.partition(", ")[2] for title in titles] == ["occlusion", "banzhaf budget=16 share=0.3"]
    assert out.count("nibt explain shows what a word adds") == 2, "each table says which number of a word it has"
    page = Path("both.html").read_text()
    assert "banzhaf budget=16 share=0.3" in page
    first, second = json.loads(Path("both.json").read_text())
    assert first["method"]["name"] == "occlusion"
    assert second["method"]["image"]["budget"] == 16
    assert second["method"]["image"]["share"] == 0.3


@pytest.mark.slow
def test_regions_draws_the_strongest_links(run: Run, photo: Path, clip_folder: Path) -> None:
    arguments = ("regions", photo, "a red cat", "-m", clip_folder, "--method", "occlusion")
    code, out, err = run(*arguments, "-o", "x.links.pdf", "--draw", "top=4", "--draw", "words=red,cat")
    assert code == 0, err
    assert "x.links.pdf" in out
    assert Path("x.links.pdf").read_bytes().startswith(b"%PDF")
    before = list_folder()
    code, _, err = run(*arguments, "-o", "other.png", "-o", "other.links.pdf", "--draw", "box=5000,0,9,9")
    assert code == 1
    assert "the box must have the center of a part" in err
    assert list_folder() == before, "nothing is written"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "banzaf"), "Did you mean 'banzhaf'"),
        (("--method", "banzhaf 3"), "must be name=value"),
        (("--method", "banzhaf budget=x"), "budget must be a whole number"),
        (("--draw", "top=0"), "top must be between 1 and 10,000"),
        (("--draw", "box=1,2,3"), "box must be four whole numbers"),
        (("--draw", "box=1,2,0,4"), "with a positive size"),
        (("--method", "nib", "--method", "gae", "-o", "x.links.pdf"), "holds a single result (got 2)"),
        (("-o", "links.txt"), "must end in the name of a format"),
        (("-o", "x.coco.json"), "is for explanations (got word-region tables)"),
    ],
)
def test_regions_refuses_bad_options(
    run: Run, photo: Path, clip_folder: Path, options: tuple[object, ...], message: str
) -> None:
    code, _, err = run("regions", photo, "a red cat", "-m", clip_folder, *options)
    assert code == 2
    assert message in err
    assert list_folder() == []


def test_regions_never_replaces_the_segments(run: Run, photo: Path, clip_folder: Path) -> None:
    with Image.open(photo) as opened:
        labels = np.arange(opened.width * opened.height).reshape(opened.height, opened.width) // 999
    np.save(f"{photo.stem}.npy", labels)
    before = Path(f"{photo.stem}.npy").read_bytes()
    Path(f"{photo.stem}.npy").rename("s.json")
    method = "occlusion units=segments:s.json"
    for command in ("regions", "explain"):
        arguments = (command, photo, "a cat", "-m", clip_folder, "--method", method, "--overwrite")
        code, _, err = run(*arguments, "-o", "s.json")
        assert (code, "is an input of this call" in err) == (2, True)
    assert Path("s.json").read_bytes() == before


def test_regions_takes_spaces_around_a_method(run: Run, photo: Path, clip_folder: Path) -> None:
    code, _, err = run("regions", photo, "a cat", "-m", clip_folder, "--method", " occlusion ", "-o", "-")
    assert code == 0, err
