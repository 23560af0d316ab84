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
