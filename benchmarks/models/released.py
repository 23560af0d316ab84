"""Small models that differ from released ones in their sizes and weights alone.

``facts`` has a file for each released model: its class, its configuration, the settings of its processor, its special
tokens and who adds them, the structure of its chat template, its generation settings, and weights that its file has
beside those of the class, or lacks. ``save`` writes a folder as the authors' repository has it, with few and narrow
layers, a small vocabulary and random weights. Sizes of images and patches are the released ones. Nothing here imports
nibt.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import open_clip
import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from . import tiny_open_clip
from .released_tokenizers import Ids, save_tokenizer
from .tiny_families import ALIGN_SIZES, randomized

FACTS = Path(__file__).parent / "facts"
_HEADS = 4
_DECODER = {"hidden_size": 32, "intermediate_size": 40, "head_dim": 8, "num_hidden_layers": 3}
_WIDTHS: Mapping[str, int] = {
    **_DECODER,
    "alignment_intermediate_size": 40,
    "attention_head_dim": 8,
    "cross_attention_hidden_size": 32,
    "d_ff": 40,
    "d_kv": 8,
    "d_model": 32,
    "decoder_attention_heads": _HEADS,
    "decoder_ffn_dim": 40,
    "decoder_layers": 2,
    "depth": 3,
    "embed_dim": 32,
    "embedding_dim": 12,
    "encoder_attention_heads": _HEADS,
    "encoder_ffn_dim": 40,
    "encoder_hidden_size": 32,
    "encoder_layers": 2,
    "ffn_dim": 40,
    "image_text_hidden_size": 12,
    "moe_intermediate_size": 24,
    "moe_num_experts": 4,
    "moe_topk": 2,
    "n_routed_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "shared_expert_intermediate_size": 24,
    "n_embd": 32,
    "n_head": _HEADS,
    "n_layer": 3,
    "num_attention_heads": _HEADS,
    "num_decoder_layers": 2,
    "num_heads": _HEADS,
    "num_layers": 3,
    "out_hidden_size": 32,
    "projection_dim": 12,
    "word_embed_proj_dim": 32,
}
"""What stands for the sizes of a configuration; those that are not here are as released."""
_SWIN = {"depths": [1, 1, 2, 1], "embed_dim": 12, "num_heads": [1, 2, 2, 4], "hidden_size": 96, "num_layers": 4}
_OF_TYPE: Mapping[str, Mapping[str, Any]] = {
    "align_vision_model": {**ALIGN_SIZES, "depthwise_padding": []},
    "clipseg": {"extract_layers": [0, 1, 2], "reduce_dim": 8},
    "donut-swin": {
        "depths": [1, 1, 2, 1],
        "embed_dim": 4,
        "num_heads": [1, 1, 2, 2],
        "hidden_size": 32,
        "num_layers": 4,
    },
    "florence_vision": {
        "depths": [1] * 4,
        "embed_dim": [8, 8, 8, 16],
        "dim_embed": [8, 8, 8, 16],
        "num_heads": [2] * 4,
        "num_groups": [2] * 4,
        "projection_dim": 32,
    },
    "paligemma": {"projection_dim": 32, "vision_config.projection_dim": 32},
    "qwen2_5_vl": {"fullatt_block_indexes": [1]},
    "qwen3_vl": {"deepstack_visual_indexes": [0, 1]},
    "align": {"projection_dim": 24},
    "glm4v_moe_text": {"head_dim": 16},
    "got_ocr2_vision": {"num_attention_heads": 2, "global_attn_indexes": [1], "mlp_dim": 40, "output_channels": 12},
    "glm4v_text": {"num_attention_heads": 2, "num_key_value_heads": 1},
    "janus_vision_model": {"mlp_ratio": 2.0, "projection_dim": 32},
    "janus_vqgan": {
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "embed_dim": 4,
        "image_token_embed_dim": 32,
        "latent_channels": 8,
        "num_embeddings": 8,
        "num_patches": 4,
        "num_res_blocks": 1,
        "projection_dim": 32,
    },
    "bridgetower": {"hidden_size": 64},  # of which 64 are a head
    "bridgetower_text_model": {"hidden_size": 64},
    "bridgetower_vision_model": {"hidden_size": 64},
    "omdet-turbo": {
        "class_embed_dim": 32,
        "d_model": 16,
        "decoder_dim_feedforward": 40,
        "decoder_hidden_dim": 16,
        "decoder_num_heads": 4,
        "decoder_num_layers": 2,
        "encoder_dim_feedforward": 40,
        "encoder_hidden_dim": 16,
        "encoder_layers": 1,
        "num_queries": 30,
        "task_encoder_hidden_dim": 24,
        "text_projection_in_dim": 32,
        "text_projection_out_dim": 32,
        "vision_features_channels": [16, 16, 16],
    },
    "sam3_vit_model": {"global_attn_indexes": [1]},
    "sam3_vision_model": {"fpn_hidden_size": 32},
    "sam3_detr_decoder": {"num_queries": 30},
    "owlv2": {"projection_dim": 32},
    "owlvit": {"projection_dim": 32},
    "convnext": {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16]},
    "convnextv2": {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16]},
    "dinov2_with_registers": {
        "out_features": ["stage3"],
        "out_indices": [3],
        "stage_names": ["stem", "stage1", "stage2", "stage3"],
    },
    "regnet": {"depths": [1] * 4, "embedding_size": 8, "groups_width": 8, "hidden_sizes": [16, 16, 32, 32]},
    "resnet": {"depths": [1] * 4, "embedding_size": 8, "hidden_sizes": [16, 16, 32, 32]},
    "timm_wrapper": {
        "hidden_size": 64,
        "model_args": {"inference_mode": True, "layers": [1] * 5, "embed_dims": [8, 8, 16, 32, 32]},
    },
    "swin": _SWIN,
    "swinv2": _SWIN,
}
"""The sizes of networks that are no stack of equal layers, by ``model_type``."""
_TYPES = {"['LightOnOCRForConditionalGeneration']": "lighton_ocr"}  # whose files name another one
_SECTIONS = [1, 1, 2]  # of positions in Qwen-VL, which add up to half of a head
_TOKEN = re.compile(r"_token_(id|index)$")


def names() -> list[str]:
    """Return the names of all files of facts."""
    return sorted(path.stem for path in FACTS.glob("*.toml"))


@cache
def _facts(name: str) -> dict[str, Any]:
    return tomllib.loads((FACTS / f"{name}.toml").read_text(encoding="utf-8"))


def facts(name: str) -> dict[str, Any]:
    """Return the facts of a released model."""
    return deepcopy(_facts(name))


def is_built(known: Mapping[str, Any]) -> bool:
    """Return whether the facts suffice to write the folder of a model of Transformers, and the class is there."""
    parts = {"config", "preprocessor", "classes" if known["use"] == "classify" else "tokenizer"} <= known.keys()
    return parts and known["library"] in ("transformers", "open_clip") and not known.get("refused")


def is_late(known: Mapping[str, Any]) -> bool:
    """Return whether a model embeds each token of a prompt."""
    return known["architecture"].startswith("Col")


def is_pooled(known: Mapping[str, Any]) -> bool:
    """Return whether a vision-language model embeds a prompt as one vector."""
    return "pooling" in known["call"] and not is_late(known)


def save(name: str, folder: Path) -> None:
    """Write the folder of a small model with the facts of a released one."""
    known = facts(name)
    folder.mkdir(parents=True, exist_ok=True)
    if known["library"] == "open_clip":
        _save_open_clip(known, folder)
        return
    if known["use"] == "classify":
        _save_classifier(known, folder)
        return
    ids = save_tokenizer(known, folder)
    config = small_config(_with_nulls(known["config"], known.get("nulls", ())), ids)
    built = _config(config)
    kind = getattr(transformers, known["architecture"])
    if "part" in known:  # of a configuration that has those of other networks, too
        built = getattr(built, known["part"])
    module = randomized(lambda: kind(built))
    dtype = getattr(torch, known.get("weights", {}).get("dtype", "float32"))
    shards = known.get("weights", {}).get("shards", 1)
    module.to(dtype).save_pretrained(folder, max_shard_size="5GB" if shards in (1, "") else "100KB")
    for file in ("generation_config.json", "config.json"):
        (folder / file).unlink(missing_ok=True)
    _change_weights(folder, known.get("weights", {}))
    _write(folder / "config.json", config)
    _write(folder / "preprocessor_config.json", known["preprocessor"])
    processor = {key: value for key, value in known.get("processor", {}).items() if key != "in_file"}
    if len(processor) > 1 and known["processor"].get("in_file", True):
        _write(folder / "processor_config.json", processor)
    if "generation" in known:
        _write(folder / "generation_config.json", _with_ids(known["generation"], ids.small))
    if "chat_template" in known:
        (folder / "chat_template.jinja").write_text(known["chat_template"], encoding="utf-8")


def _save_classifier(known: Mapping[str, Any], folder: Path) -> None:
    """Write a folder as a classifier of Transformers has it, with the names of ImageNet's classes."""
    names = ImageNetInfo(known["classes"])
    config = small_config(known["config"], Ids(0, {}))
    config["id2label"] = {str(number): names.index_to_description(number) for number in range(names.num_classes())}
    config["label2id"] = {name: int(number) for number, name in config["id2label"].items()}
    built = _config(config)
    randomized(lambda: getattr(transformers, known["architecture"])(built)).save_pretrained(folder)
    _write(folder / "config.json", config)
    _write(folder / "preprocessor_config.json", known["preprocessor"])


def _save_open_clip(known: Mapping[str, Any], folder: Path) -> None:
    """Write a folder as OpenCLIP has it: the model of a configuration, and how it prepares images."""
    config = deepcopy(dict(known["config"]))
    vision, text = config["vision_cfg"], config["text_cfg"]
    config["embed_dim"] = tiny_open_clip.TRUNK_WIDTH if "timm_model_name" in vision else 32
    if isinstance(vision.get("layers"), list):
        vision |= {"layers": [1] * 4, "width": 8}
    elif "timm_model_name" not in vision:
        vision |= {"layers": 3, "width": 32, "head_width": 16}
    if "hf_tokenizer_name" in text:
        count = save_tokenizer(known, folder).count
        text |= {"hf_tokenizer_name": str(folder)}
        if "hf_model_name" in text:
            heads = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 40}
            encoder = {"model_type": "bert", **known.get("text_model", {})}
            transformers.AutoConfig.for_model(**encoder, vocab_size=count, **heads).save_pretrained(folder)
            text |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
        else:
            text["vocab_size"] = count
    if "hf_model_name" not in text:
        text |= {"layers": 3, "width": config["embed_dim"] if text.get("proj_type") == "none" else 32, "heads": 2}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {"layers": 1, "width": 32, "heads": 2}
        vision["attn_pooler_heads"] = 2
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CLIP
    if kind is open_clip.CLIP and (config.get("custom_text") or "hf_model_name" in text):
        kind = open_clip.CustomTextCLIP
    parts = {key: value for key, value in config.items() if key != "custom_text"}
    with tiny_open_clip.small_trunks(None):
        module = randomized(lambda: kind(**parts))
    save_file(
        {name: value.clone() for name, value in module.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    preparation = {key: value for key, value in known["preprocessor"].items() if key != "hf_hub"}
    _write(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preparation})


def small_config(released: Mapping[str, Any], ids: Ids) -> dict[str, Any]:
    """Return the configuration of a released model with small sizes, and the ids of a small vocabulary."""
    result = deepcopy(dict(released))
    _shrink(result, _config(released), ids.small, ids.count)
    return result


def _with_nulls(values: dict[str, Any], places: Iterable[str]) -> dict[str, Any]:
    """Return a configuration with the keys that a release sets to null, which TOML cannot have."""
    for place in places:
        *parts, key = place.split(".")
        inner = values
        for part in parts:
            inner = inner[part]
        inner[key] = None
    return values


def _config(values: Mapping[str, Any]) -> Any:
    """Return the configuration object that Transformers reads from ``config.json``."""
    kind = CONFIG_MAPPING[_TYPES.get(str(values.get("architectures")), values["model_type"])]
    with without_hub():
        return kind.from_dict({key: value for key, value in deepcopy(dict(values)).items() if key != "architectures"})


def without_hub() -> Any:
    """Answer as the hub does if Transformers asks it whether a backbone of timm is a repository."""
    return patch("huggingface_hub.HfApi.repo_exists", return_value=False)


def _shrink(values: dict[str, Any], resolved: Any, ids: Mapping[int, int], vocabulary: int) -> None:
    """Overwrite the sizes and ids of one configuration, and of those inside it, as the class has resolved them."""
    own, special = resolved.to_dict(), _OF_TYPE.get(resolved.model_type, {})
    for key in sorted({*own, *values}):
        inner = getattr(resolved, key, None)
        if key in values and values[key] is None:
            continue
        if isinstance(inner, transformers.PretrainedConfig):
            is_flat = key not in values and any(_is_size(name) for name in values if name in inner.to_dict())
            _shrink(values if is_flat else values.setdefault(key, {}), inner, ids, vocabulary)
            inside = {name.partition(".")[2]: size for name, size in special.items() if name.startswith(f"{key}.")}
            values.get(key, values).update(inside)
            if is_flat:  # an old form, whose language model is no part of its own
                continue
            if isinstance(values.get(f"{key}_dict"), dict):  # which Transformers lays over it
                values[f"{key}_dict"] |= {
                    name: values[key][name] for name in values[key] if name in own.get(key, {}) and _is_size(name)
                }
                values[f"{key}_dict"] |= {name: value for name, value in values[key].items() if _TOKEN.search(name)}
            continue
        value = own.get(key)
        if isinstance(values.get(key), dict) and "mrope_section" in values[key]:
            values[key] = {**values[key], "mrope_section": _SECTIONS}
        elif key in special:
            values[key] = special[key]
        elif key == "layer_types" and key in values:
            values[key] = value[: _WIDTHS["num_hidden_layers"]]
        elif key in _WIDTHS and isinstance(value, int):
            values[key] = _WIDTHS[key]
        elif key == "num_key_value_heads" and isinstance(value, int):
            values[key] = max(1, _HEADS * value // own["num_attention_heads"])
        elif key == "vocab_size":
            values[key] = vocabulary
        elif _TOKEN.search(key) and (isinstance(value, int | list) and value is not True):
            small = _with_ids({key: value}, ids)[key]
            if isinstance(small, int) and small >= vocabulary:  # of a token that the facts do not name
                small = 0
            if small != value:
                values[key] = small


def _is_size(name: str) -> bool:
    return name in _WIDTHS or name in ("vocab_size", "num_key_value_heads")


def _with_ids(values: Mapping[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    """Return settings whose token ids are those of the small vocabulary; ids without a known token stay."""

    def small(value: Any) -> Any:
        return [small(item) for item in value] if isinstance(value, list) else ids.get(value, value)

    return {key: small(value) if re.search(r"token", key) else value for key, value in values.items()}


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")


def _change_weights(folder: Path, known: Mapping[str, Any]) -> None:
    """Add what a released file has beside the weights of its class, and remove what it lacks."""
    extra = [name for name in known.get("extra", ()) if re.fullmatch(r"[\w.]+", name)]
    missing = [name.split()[0] for name in known.get("missing", ())]
    for number, path in enumerate(sorted(folder.glob("*.safetensors"))):
        weights = load_file(path)
        weights = {name: value for name, value in weights.items() if name not in missing}
        if number == 0:
            weights |= {name: torch.arange(4)[None] for name in extra}
        save_file(weights, path, metadata={"format": "pt"})
