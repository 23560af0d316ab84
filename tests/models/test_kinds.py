"""Tests of refusals: what a model is, and the nearest way out, without names of classes that are spelled alike."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers.models.auto import modeling_auto

from benchmarks.models import released
from nibt.errors import CannotLoad
from nibt.generators.loading import load_generator
from nibt.models._classes import declared
from nibt.models._loading import load_model
from tests.suites import few

_TASKS = ("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "ZERO_SHOT_IMAGE_CLASSIFICATION", "VISUAL_QUESTION_ANSWERING")
_TASKS = (*_TASKS, "RETRIEVAL", "ZERO_SHOT_OBJECT_DETECTION")
_SUPPORTED = {name for row in declared().values() for name in (*row.classes, *row.writes)}
_TYPES = {name for row in declared().values() for name in row.types}
KINDS = re.compile(
    "writes text about images|reads an image and a text together|reads (images|text) only|reads audio|reads videos|"
    "detects or segments objects|classifies images|compares (sounds|videos)|whose answers nibt cannot explain|"
    "has no head that writes text"
)


def _declared() -> dict[str, str]:
    """Return the ``model_type`` of each class of image-text models that nibt does not support."""
    types = {}
    for task in _TASKS:
        mapping = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")
        for model_type, value in mapping.items():
            for name in (value,) if isinstance(value, str) else value:
                types.setdefault(name, model_type)
    return {name: model_type for name, model_type in types.items() if name not in _SUPPORTED}


DECLARED = _declared()
OTHERS = {
    "ViltModel": ("vilt", "reads an image and a text together in one network"),
    "BridgeTowerModel": ("bridgetower", "reads an image and a text together in one network"),
    "VisualBertModel": ("visual_bert", "reads an image and a text together in one network"),
    "CLIPTextModelWithProjection": ("clip_text_model", "reads text only"),
    "CLIPVisionModelWithProjection": ("clip_vision_model", "reads images only"),
    "BertModel": ("bert", "reads text only"),
    "ViTForImageClassification": ("vit", "classifies images"),
    "DetrForObjectDetection": ("detr", "detects or segments objects"),
    "SamModel": ("sam", "detects or segments objects"),
    "WhisperForConditionalGeneration": ("whisper", "reads audio"),
    "Wav2Vec2ForCTC": ("wav2vec2", "reads audio"),
    "VideoMAEForVideoClassification": ("videomae", "reads videos"),
    "ChameleonForConditionalGeneration": ("chameleon", "writes text about images"),
}


def refusal(folder: Path, load: Callable[..., object]) -> str:
    with pytest.raises(CannotLoad) as error:
        load(folder)
    message = str(error.value)
    assert "\n" not in message
    assert "similar" not in message
    return message


def save(folder: Path, name: str, model_type: str) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": [name]}))
    return folder


@pytest.mark.parametrize("name", few(list(DECLARED), ["ViltForQuestionAnswering", "FuyuForCausalLM"]))
def test_class_of_image_text_models_is_refused_with_its_kind(name: str, tmp_path: Path) -> None:
    save(tmp_path, name, DECLARED[name])
    loads = [load_generator] if DECLARED[name] in _TYPES else [load_model, load_generator]
    for load in loads:
        message = refusal(tmp_path, load)
        assert KINDS.search(message), message
        declared = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(DECLARED[name])
        assert not {*re.findall(r"\w+", message)} & (_SUPPORTED - {name, declared}), message


@pytest.mark.parametrize("name", few(list(OTHERS), ["ViltModel", "BertModel", "SamModel"]))
def test_kind_of_other_classes(name: str, tmp_path: Path) -> None:
    model_type, kind = OTHERS[name]
    message = refusal(save(tmp_path, name, model_type), load_model)
    assert f"has the model_type {model_type!r}, which is not supported: it {kind}" in message
    assert KINDS.search(refusal(tmp_path, load_generator))


def test_message_for_a_text_model_and_an_image_model_names_the_pair(tmp_path: Path) -> None:
    message = refusal(save(tmp_path, "CLIPTextModelWithProjection", "clip_text_model"), load_model)
    assert "load_model((image_model, text_model), processor=...)" in message


def test_message_for_a_generator_without_its_head_names_its_declared_class(tmp_path: Path) -> None:
    message = refusal(save(tmp_path, "LlavaModel", "llava"), load_generator)
    assert "it has no head that writes text: save the model as a LlavaForConditionalGeneration" in message


@pytest.mark.parametrize("load", [load_model, load_generator])
@pytest.mark.parametrize(
    ("files", "config", "problem"),
    [
        (["model-q4.gguf", "mmproj.gguf"], None, r"its weights are in GGUF, the format of llama.cpp \(mmproj.gguf\)"),
        (["model.gguf"], {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}, "are in GGUF"),
        (["weights.npz"], {"model_type": "clip"}, "it was converted for MLX"),
        ([], {"model_type": "qwen2_vl", "quantization": {"group_size": 64, "bits": 4}}, "it was converted for MLX"),
        (["model_index.json"], None, "it is a pipeline of diffusers, which draws images"),
    ],
)
def test_folders_of_other_programs(
    load: Callable[..., object], files: list[str], config: dict | None, problem: str, tmp_path: Path
) -> None:
    for file in files:
        (tmp_path / file).write_text("{}")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert re.search(f"^cannot load the model '.*': .*{problem}.*: use ", refusal(tmp_path, load))


def test_weights_of_a_variant_beside_others_do_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    released.save("openai-clip-vit-base-patch32", folder)
    expected = load_model(folder).weights_hash
    save_file({"weight": torch.zeros(1)}, folder / "model.fp16.safetensors")
    assert load_model(folder).weights_hash == expected


def test_gguf_beside_weights_of_transformers_does_not_matter(tmp_path: Path) -> None:
    save(tmp_path, "BertModel", "bert")
    (tmp_path / "model.gguf").write_text("")
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert "GGUF" not in refusal(tmp_path, load_model)


def test_configuration_without_a_class_is_no_dual_encoder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    assert "names no class in architectures" in refusal(tmp_path, load_generator)
