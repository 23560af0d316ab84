"""Tests of the command line with vision-language models and late interaction."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import Run, list_folder
from tests.tiny_vision_language import built


def saved(kind: str, folder: Path) -> Path:
    built(kind).module.save_pretrained(folder / kind)
    built(kind).processor.save_pretrained(folder / kind)
    return folder / kind


@pytest.fixture
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("qwen3_vl", tmp_path_factory.mktemp("models"))


@pytest.fixture
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("colpali", tmp_path_factory.mktemp("models"))


def test_prompts_are_options(run: Run, photo: Path, embedder: Path) -> None:
    code, _, err = run("explain", photo, "a cat", "-m", embedder)
    assert code == 1
    assert "pass pooling (--load pooling=...)" in err
    code, out, _ = run(
        "explain",
        photo,
        "a cat",
        "-m",
        embedder,
        *("--load", "pooling=last", "--load", "instruction=Represent", "-o", "-"),
    )
    assert code == 0
    model = json.loads(out)["model"]
    assert model["pooling"] == "last"
    assert model["text_prompt"].startswith("<|im_start|>system\nRepresent<|im_end|>")


def test_terminal_names_the_similarity(run: Run, photo: Path, late: Path) -> None:
    code, out, _ = run("explain", photo, "a cat", "-m", late, "--method", "similarity_map")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines() if line.startswith(("image", "text"))] == [
        ["image", "MaxSim"],
        ["text", "MaxSim"],
    ]
    assert "cosine" not in out


def test_regions_takes_any_method_with_late_interaction(run: Run, photo: Path, late: Path) -> None:
    code, _, _ = run("regions", photo, "a cat", "-m", late, "--method", "similarity_map")
    assert code == 0
    name = "photo-a-cat.regions.similarity_map.colpali"
    assert list_folder() == [f"{name}.json", f"{name}.png"]
    assert np.array(json.loads(Path(f"{name}.json").read_text())["table"]).shape == (2, 4, 4)
