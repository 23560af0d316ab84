"""Checkpoints that are not what the class that reads them computes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import nibt
from benchmarks.models import released
from nibt.errors import CannotLoad
from nibt.generators.loading import load_generator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    released.save("openai-clip-vit-base-patch32", tmp_path / "clip")
    return tmp_path / "clip"


def with_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_class_that_transformers_lacks_is_named(folder: Path) -> None:
    with_config(folder, architectures=["AdapterCLIPModel"])
    with pytest.raises(
        CannotLoad, match=r"was saved by the class AdapterCLIPModel, which Transformers .* does not have"
    ):
        nibt.load_model(folder)


def test_code_of_its_own_is_named(folder: Path) -> None:
    with_config(folder, auto_map={"AutoConfig": "configuration.C", "AutoModel": "modeling.AdapterCLIP"})
    with pytest.raises(
        CannotLoad, match=r"comes with its own code \(modeling.AdapterCLIP in auto_map of config.json\)"
    ):
        nibt.load_model(folder)


def test_code_of_a_configuration_alone_is_no_reason(folder: Path) -> None:
    with_config(folder, auto_map={"AutoConfig": "configuration.C"})
    assert nibt.load_model(folder).family == "clip"


def test_weights_of_its_own_are_named(folder: Path) -> None:
    with_weights(folder, lambda weights: weights.update({"adapter.fc1.weight": torch.zeros(4, 4)}))
    with pytest.raises(CannotLoad, match=r"has 1 weights, such as 'adapter.fc1.weight', that the class does not have"):
        nibt.load_model(folder)


def test_positions_and_poolers_that_nothing_reads_do_not_matter(folder: Path) -> None:
    before = nibt.load_model(folder)
    extra = {"vision_model.embeddings.position_ids": torch.arange(4)[None]}
    extra |= {f"text_model.pooler.dense.{name}": torch.ones(4) for name in ("weight", "bias")}
    with_weights(folder, lambda weights: weights.update(extra))
    after = nibt.load_model(folder)
    assert after.weights_hash == before.weights_hash
    assert "text_model.pooler.dense.bias" in after.request.ignored


@pytest.mark.slow
def test_missing_weights_are_named(folder: Path) -> None:
    with_weights(folder, lambda weights: weights.pop("text_projection.weight"))
    with pytest.raises(CannotLoad, match=r"lacks 1 weights, such as 'text_projection.weight', which would be random"):
        nibt.load_model(folder)


def test_a_missing_pooler_is_zero_and_draws_nothing(tmp_path: Path) -> None:
    """TrOCR was released without the pooler of its encoder, which nothing reads."""
    released.save("microsoft-trocr-base-printed", tmp_path)
    state = torch.random.get_rng_state()
    one, other = load_generator(tmp_path), load_generator(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not one.module.encoder.pooler.dense.weight.any()  # pyright: ignore
    assert one.weights_hash == other.weights_hash


def test_class_of_another_generator_is_named_with_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": ["VideoLlavaForConditionalGeneration"], "model_type": "video_llava"})
    )
    message = "is of the class VideoLlavaForConditionalGeneration, which is not supported: it writes text about images"
    with pytest.raises(CannotLoad, match=message):
        load_generator(tmp_path)
