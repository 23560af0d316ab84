"""Tests of the tables of words and frames (``nibt.generators.formats.frames``)."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.errors import BadInput, BadOption
from nibt.generators.formats.frames import draw_frames
from nibt.report.colors import DEFAULT, on_paper
from tests import tiny
from tests.tiny_vision_language import generator

PROMPT = "<|vision_start|><|video_pad|><|vision_end|>a red cat"
FAST = {"narrow": ["image"], "layer": 2, "steps": 2}


@cache
def explained(count: int = 8) -> nibt.AnswerExplanation:
    """Explain an answer about a video of a tiny model, which merges every two frames."""
    frames = [tiny.image(64, 64, seed=seed) for seed in range(count)]
    return nibt.explain_answer(generator("qwen2_vl"), frames, PROMPT, "two red cars", other_images=[], **FAST)


def test_cells_have_the_colors_of_the_sums() -> None:
    result = explained()
    assert result.frames == 2
    sums = result.image_sums.numpy()
    assert sums.shape == (3, 4)
    picture = np.asarray(draw_frames(result, DEFAULT)).reshape(-1, 3)
    drawn = {tuple(color) for color in picture.tolist()}
    for share in (sums / np.abs(sums).max()).flatten():
        assert tuple(on_paper(float(share), DEFAULT.palette).tolist()) in drawn


@pytest.mark.parametrize("ending", [".frames.png", ".frames.pdf", ".frames.svg"])
def test_file_is_written_and_not_replaced(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    explained().save(path)
    assert path.stat().st_size > 5000
    first = path.read_bytes()
    explained().save(path, cmap="red_blue")
    assert path.read_bytes() == first


def test_many_frames_are_narrow() -> None:
    few_frames = draw_frames(explained(), DEFAULT)
    many = draw_frames(explained(40), DEFAULT)
    assert few_frames.width < many.width < 4 * few_frames.width


def test_one_image_has_no_table(tmp_path: Path) -> None:
    alone = nibt.explain_answer(generator("qwen2_vl"), tiny.image(), "a red cat", "two", other_images=[], **FAST)
    with pytest.raises(BadOption, match="for an answer about several images, or a video"):
        alone.save(tmp_path / "x.frames.png")
    assert not (tmp_path / "x.frames.png").exists()


def test_loaded_results_are_drawn_if_their_frames_are_there(tmp_path: Path) -> None:
    paths = []
    for seed in range(4):
        paths.append(tmp_path / f"{seed}.png")
        tiny.image(64, 64, seed=seed).pil_image.save(paths[-1])
    result = nibt.explain_answer(generator("qwen2_vl"), paths, PROMPT, "two red cars", other_images=[], **FAST)
    result.save(tmp_path / "x.json")
    loaded = nibt.AnswerExplanation.load(tmp_path / "x.json")
    loaded.save(tmp_path / "x.frames.png")
    result.save(tmp_path / "y.frames.png")
    assert Image.open(tmp_path / "x.frames.png").tobytes() == Image.open(tmp_path / "y.frames.png").tobytes()
    paths[0].unlink()
    with pytest.raises(BadInput, match="no longer there"):
        nibt.AnswerExplanation.load(tmp_path / "x.json").save(tmp_path / "z.frames.png")
