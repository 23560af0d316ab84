"""Models saved to a folder, and how loaded ones are compared."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from nibt.models.base import Model, Tower
from tests import tiny
from tests.helpers import assert_embeddings_close


def save(kind: str, folder: Path) -> Path:
    """Save a Hugging Face model with its processors to a folder."""
    built = tiny.KINDS[kind]()
    built.module.save_pretrained(folder)
    built.processor.save_pretrained(folder)
    if built.tokenizer is not None:
        built.tokenizer.save_pretrained(folder)
    return folder


def save_open_clip(folder: Path, vision: dict | None = None, **text: Any) -> nn.Module:
    """Save a tiny model to an OpenCLIP folder."""
    folder.mkdir()
    config = tiny.configuration(vision, text)
    module = tiny.randomized(lambda: open_clip.CLIP(**config))
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return module


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def answers(model: Model) -> list[torch.Tensor]:
    return [answer(model.image, tiny.image()), answer(model.text, tiny.CAPTIONS[0])]


def answer(tower: Tower, item: Any) -> torch.Tensor:
    return tower.encode(tower.prepare([item]))


def agree(one: Model, other: Model) -> None:
    for actual, wanted in zip(answers(one), answers(other), strict=True):
        assert_embeddings_close(actual, wanted)


class Evil:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return open, (str(self.mark), "w")
