"""Fixtures of the tests of this folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import tiny


@pytest.fixture
def pairs_folder(tmp_path: Path) -> Path:
    """Six pairs in a folder; the image of the third is broken."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for item in range(6):
        tiny.image(seed=item).pil_image.save(folder / f"{item}.png")
    (folder / "2.png").write_bytes(b"no image")
    lines = [json.dumps({"image": f"{item}.png", "caption": tiny.CAPTIONS[item % 4]}) for item in range(6)]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def plan(clip_folder: Path, pairs_folder: Path) -> dict[str, Any]:
    """A plan with a tiny model."""
    return {
        "about": "tiny",
        "batch_size": 4,
        "models": [{"name": str(clip_folder), "label": "tiny"}],
        "methods": [
            "nib",
            {"name": "nib", "options": {"steps": 2}},
            {"name": "m2ib", "options": {"steps": 1}, "count": 5},
        ],
        "data": [{"name": "folder", "label": "pairs", "options": {"folder": str(pairs_folder)}}],
        "metrics": [
            "special_token_share",
            "corner_share",
            {"name": "confidence_drop", "options": {"protocol": "paper"}},
            {"name": "confidence_increase", "options": {"protocol": "paper"}},
        ],
    }
