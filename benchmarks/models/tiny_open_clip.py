"""OpenCLIP's configurations, shrunk: the same classes, pooling and heads, with few and narrow blocks.

Each block of a network computes the same, so two of them show what thirty would. Sizes and vocabularies are small,
and weights random. Nothing here imports nibt.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import open_clip
import timm
import transformers
from open_clip.tokenizer import HFTokenizer

from .tiny_families import Family, randomized, roberta_tokenizer

CONTEXT = 16
WIDTH = 32
TRUNK_WIDTH = 64


def build(name: str) -> Family:
    """Build the shrunk model of a configuration."""
    config = open_clip.get_model_config(name)
    assert config is not None
    vision, text = vision_part(config["vision_cfg"]), text_part(config["text_cfg"])
    kind = open_clip.CLIP
    more: dict[str, Any] = {key: config[key] for key in ("init_logit_bias", "quick_gelu") if key in config}
    if "multimodal_cfg" in config:
        kind = open_clip.CoCa
        vocabulary = text.get("vocab_size", len(roberta_tokenizer()))
        decoder = {"context_length": CONTEXT, "vocab_size": vocabulary, "layers": 1, "width": WIDTH, "heads": 2}
        more["multimodal_cfg"] = {**config["multimodal_cfg"], **decoder, "attn_pooler_heads": 2}
    elif config.get("custom_text") or "hf_model_name" in text or text.get("text_arch") == "modern":
        kind = open_clip.CustomTextCLIP
    # a trunk without a projection gives its width, which is that of ``_shrunk``
    joint = TRUNK_WIDTH if "timm_model_name" in vision else WIDTH
    with small_trunks():
        module = randomized(lambda: kind(embed_dim=joint, vision_cfg=vision, text_cfg=text, **more))
    return Family(module, None, tokenizer_of(config["text_cfg"]))


def vision_part(config: dict[str, Any]) -> dict[str, Any]:
    if "timm_model_name" in config:
        name = config["timm_model_name"]
        size = 224 if "swin" in name else 64 if "vit" in name or "eva" in name else 128
        return {**config, "timm_model_pretrained": False, "image_size": size}
    if isinstance(config["layers"], list):
        return {**config, "layers": [1, 1, 1, 1], "width": 8, "image_size": 64}
    pooler = {"attn_pooler_heads": 2, "attn_pooler_queries": 6} if config.get("attentional_pool") else {}
    patch = config["patch_size"]
    return {**config, "layers": 3, "width": WIDTH, "head_width": 16, "image_size": 4 * patch, **pooler}


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    if "hf_model_name" in config:
        return {**config, "hf_model_name": encoder_folder(config["hf_model_name"]), "hf_model_pretrained": False}
    width = TRUNK_WIDTH if config.get("proj_type") == "none" else WIDTH
    small = {**config, "context_length": CONTEXT, "layers": 3, "width": width, "heads": 2}
    small["vocab_size"] = 49408
    if config.get("text_arch") == "modern":
        small.update(pad_id=0, bos_id=49406, eos_id=49407)
    if "hf_tokenizer_name" in config:
        small["vocab_size"] = len(roberta_tokenizer())
        if "eos_id" in config:
            small["eos_id"] = roberta_tokenizer().eos_token_id
        small["pad_id"] = roberta_tokenizer().pad_token_id
    return small


@cache
def encoder_folder(name: str) -> str:
    """Save the configuration of a small encoder of the kind of a text tower, with its tokenizer."""
    folder, tokenizer = mkdtemp(), roberta_tokenizer()
    shared = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    places = {"max_position_embeddings": CONTEXT + 2, **shared}
    heads = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    layers = {
        f"{part}_{key}": value
        for part in ("encoder", "decoder")
        for key, value in (("layers", 2), ("ffn_dim", 32), ("attention_heads", 2))
    }
    if "nllb" in name:
        config = transformers.M2M100Config(d_model=24, **layers, **places, scale_embedding=True)
    elif "mt5" in name:
        config = transformers.MT5Config(d_model=24, d_kv=12, d_ff=32, num_layers=3, num_heads=2, **shared)
    else:
        kind = transformers.XLMRobertaConfig if "xlm" in name else transformers.RobertaConfig
        config = kind(**heads, **places)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def _tokenizer_folder() -> str:
    folder = mkdtemp()
    roberta_tokenizer().save_pretrained(folder)
    return folder


def tokenizer_of(config: dict[str, Any]) -> Any:
    if "hf_tokenizer_name" in config or "hf_model_name" in config:
        options = {key: value for key, value in config.get("tokenizer_kwargs", {}).items() if key == "clean"}
        return HFTokenizer(_tokenizer_folder(), context_length=CONTEXT, **options)
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


@contextmanager
def small_trunks(size: int | None = 64) -> Iterator[None]:
    """Shrink the trunks that timm creates inside ``with``; None keeps the size of images."""
    create = timm.create_model

    def small(name: str, **options: Any) -> Any:
        for shrunk in _shrunk(name):
            kept = {key: value for key, value in shrunk.items() if size or "img_size" not in key}
            try:
                return create(name, **options, **kept)
            except (TypeError, ValueError, AssertionError, RuntimeError):
                continue
        return create(name, **options)

    with patch("timm.create_model", small):
        yield


def _shrunk(name: str) -> list[dict[str, Any]]:
    """Return options that shrink a trunk; the first that it takes are used."""
    if name.startswith("convnext"):
        return [{"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 48)}]
    if name.startswith("fastvit"):
        count = 5 if name.endswith(("mci3", "mci4")) else 4
        return [{"layers": (1,) * count, "embed_dims": (16, 32, 64, 64, 64)[:count]}]
    if name.startswith("swin"):
        return [{"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (2, 2, 2, 2)}]
    narrow = {"depth": 3, "embed_dim": TRUNK_WIDTH, "num_heads": 4}
    return [
        {**narrow, "img_size": 64, "dynamic_img_size": False},
        {**narrow, "img_size": 64},
        {"depth": 3, "img_size": 64},
        {"depth": 3},
    ]


CONFIGURATIONS = [name for name in open_clip.list_models() if "vision_cfg" in (open_clip.get_model_config(name) or {})]
"""The configurations of images and text; the next major version has some of sounds, too."""
