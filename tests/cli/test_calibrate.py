"""Tests of ``nibt.cli.commands.models``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.helpers import Run
from tests.suites import few


def test_calibrate_writes_mean_states_that_explain_uses(run: Run, photo: Path, clip_folder: Path) -> None:
    Path("captions.txt").write_text("a cat\ntwo red cars on the mat\n")
    code, out, _ = run("calibrate", photo, "-m", clip_folder, "--captions", "captions.txt", "--out", "mean.safetensors")
    assert code == 0
    assert "1 images and 2 captions" in out
    code, out, _ = run(
        "explain",
        photo,
        "a cat",
        "-m",
        clip_folder,
        "--method",
        "nib baseline=mean:mean.safetensors views=1",
        "-o",
        "-",
    )
    assert code == 0
    data = {side: json.loads(out)["sides"][side]["path"] for side in ("image", "text")}
    # the path from an image to its own mean has no change; the caption is not its own mean
    assert data["image"]["sum"] == pytest.approx(0, abs=1e-6)
    assert abs(data["text"]["sum"]) > 1e-6


IMAGES = [tiny.image(seed=seed) for seed in range(5)]


CAPTIONS = ["cat", "two cars", "a photo of a cat", "a small gray bird on the mat"]


class TestCommands:
    """The two commands of the README."""

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest, clip_folder: Path) -> str:
        return str(clip_folder) if request.param == "a folder" else request.param

    @pytest.mark.parametrize("model", few(["lite", "a folder"], ["a folder"]), indirect=True)
    @pytest.mark.parametrize("captions", [False, True])
    def test_calibrate_then_explain_works_as_documented(
        self, model: str, captions: bool, run: Callable[..., Any], tmp_path: Path
    ) -> None:
        photos = []
        for place, image in enumerate(IMAGES[:2]):
            photos.append(tmp_path / f"{place}.png")
            image.pil_image.save(photos[-1])
        (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))
        more = ("--captions", tmp_path / "captions.txt") if captions else ()
        code, out, _ = run("calibrate", *photos, "-m", model, *more, "--out", "mean.safetensors")
        assert code == 0
        assert ("the text side keeps its default baseline" in out) != captions
        code, out, errors = run(
            "explain", photos[0], "a cat", "-m", model, "--method", "nib baseline=mean:mean.safetensors", "-o", "-"
        )
        assert code == 0, errors
        actual = json.loads(out)
        assert actual["method"]["image"]["baseline"] == "mean:mean.safetensors"
        assert actual["method"]["text"]["baseline"] == ("mean:mean.safetensors" if captions else "blank")
        kept = [text for text in actual["warnings"] if "the text side keeps its baseline 'blank'" in text]
        assert len(kept) == (0 if captions else 1)
