"""Small random models of Transformers that read an image and a text in one network, with their own processors.

Nothing here imports nibt. ``save`` writes the folder of a model as its library does.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import transformers

from .tiny_families import (
    CONTEXT,
    LETTERS,
    TEXT,
    VISION,
    WORDS,
    Family,
    bert_tokenizer,
    blip,
    blip_2,
    build,
    clip_tokenizer,
    clipseg_segmenter,
    config_of,
    ends,
    randomized,
    squashing,
)

_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
_SWIN |= {"window_size": 4, "out_features": ["stage2", "stage3", "stage4"]}


def vilt() -> Family:
    tokenizer = bert_tokenizer()
    config = transformers.ViltConfig(
        **VISION,
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        image_size=32,
        patch_size=8,
        num_images=-1,
        modality_type_vocab_size=2,
    )
    image = transformers.ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8)
    return build("ViltForImageAndTextRetrieval", config, image, tokenizer, "ViltProcessor")


def byte_pair_tokenizer() -> Any:
    """RoBERTa's byte pairs: each word of ``WORDS`` is one token."""
    merges, pieces = [], [*LETTERS, "Ġ"]
    for word in WORDS:
        for start in (word, f"Ġ{word}"):
            merges += [(start[:row], start[row]) for row in range(1, len(start))]
            pieces += [start[: row + 1] for row in range(1, len(start))]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {piece: row for row, piece in enumerate(dict.fromkeys([*special, *pieces, ".", ",", "-"]))}
    return transformers.RobertaTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)), model_max_length=CONTEXT)


def bridgetower() -> Family:
    tokenizer = byte_pair_tokenizer()
    shared = {"hidden_size": 64, "num_hidden_layers": 4}  # of which 64 are a head
    config = transformers.BridgeTowerConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        text_config={
            **shared,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CONTEXT + 2,
        },
        vision_config={**shared, "image_size": 32, "patch_size": 8},
    )
    image = transformers.BridgeTowerImageProcessor(
        size={"shortest_edge": 32}, crop_size={"shortest_edge": 32}, size_divisor=8
    )
    return build("BridgeTowerForImageAndTextRetrieval", config, image, tokenizer, "BridgeTowerProcessor")


def owlvit(version: int = 1) -> Family:
    tokenizer = clip_tokenizer(pad_token="!")
    name = "OwlViT" if version == 1 else "Owlv2"
    config = config_of(f"{name}Config", text=ends(tokenizer), projection_dim=TEXT["hidden_size"])
    image = squashing(transformers.OwlViTImageProcessor if version == 1 else transformers.Owlv2ImageProcessor)
    return build(f"{name}ForObjectDetection", config, image, tokenizer, f"{name}Processor")


def _grounding_dino(kind: str) -> Family:
    tokenizer = bert_tokenizer()
    text = {**TEXT, "num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    config = getattr(transformers, f"{kind}Config")(
        backbone_config=transformers.SwinConfig(**_SWIN),
        text_config={**text, "model_type": "bert"},
        d_model=32,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        num_queries=8,
        num_feature_levels=4,
        max_text_len=CONTEXT,
        dropout=0.0,
    )
    image = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    return build(f"{kind}ForObjectDetection", config, image, tokenizer, "GroundingDinoProcessor")


def grounding_dino() -> Family:
    return _grounding_dino("GroundingDino")


def mm_grounding_dino() -> Family:
    return _grounding_dino("MMGroundingDino")


def omdet_turbo() -> Family:
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 77
    config = transformers.OmDetTurboConfig(
        text_config={
            **TEXT,
            **ends(tokenizer),
            "model_type": "clip_text_model",
            "hidden_size": 24,
            "max_position_embeddings": 77,
            "projection_dim": 24,
        },
        backbone_config=transformers.SwinConfig(**{**_SWIN, "image_size": 64}),
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        apply_layernorm_after_vision_backbone=False,
        image_size=64,
        vision_features_channels=[16, 16, 16],
        encoder_in_channels=[16, 32, 64],
        encoder_hidden_dim=16,
        decoder_hidden_dim=16,
        class_embed_dim=24,
        task_encoder_hidden_dim=24,
        text_projection_in_dim=24,
        text_projection_out_dim=24,
        encoder_attention_heads=2,
        encoder_dim_feedforward=16,
        num_queries=8,
        decoder_num_heads=2,
        decoder_num_layers=2,
        decoder_dim_feedforward=16,
        num_projection_layers=1,
        encoder_layers=1,
    )
    image = transformers.DetrImageProcessor(size={"height": 64, "width": 64}, do_pad=False)
    return build("OmDetTurboForObjectDetection", config, image, tokenizer, "OmDetTurboProcessor")


def sam3() -> Family:
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 32
    backbone = {**VISION, "hidden_size": 32, "num_attention_heads": 2, "image_size": 112, "patch_size": 14}
    small = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.Sam3Config(
        vision_config={
            "backbone_config": {
                **backbone,
                "model_type": "sam3_vit_model",
                "window_size": 4,
                "global_attn_indexes": [2],
            }
            | {"pretrain_image_size": 56},
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config={
            **TEXT,
            **ends(tokenizer),
            "model_type": "clip_text_model",
            "max_position_embeddings": 32,
            "projection_dim": 16,
        },
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 8},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    image = transformers.Sam3ImageProcessor(size={"height": 112, "width": 112}, mask_size={"height": 32, "width": 32})
    return build("Sam3Model", config, image, tokenizer, "Sam3Processor")


def save_sam3_with_tracker(folder: Path) -> None:
    """Write the folder of a checkpoint of SAM 3 as it is released: the detector of images, and a tracker of videos."""
    detector = sam3()
    tracker = transformers.Sam3TrackerVideoConfig(
        vision_config=detector.module.config.vision_config.to_dict(),
        prompt_encoder_config={"hidden_size": 32, "image_size": 112, "patch_size": 14, "mask_input_channels": 8},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "num_hidden_layers": 1},
        image_size=112,
        memory_attention_hidden_size=32,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=32,
        memory_fuser_num_layers=1,
    )
    config = transformers.Sam3VideoConfig(
        detector_config=detector.module.config.to_dict(), tracker_config=tracker.to_dict()
    )
    randomized(lambda: transformers.Sam3VideoModel(config)).save_pretrained(folder)
    videos = transformers.Sam2VideoVideoProcessor()
    processor = transformers.Sam3VideoProcessor(detector.processor.image_processor, videos, detector.tokenizer)
    processor.save_pretrained(folder)


MAKERS: Mapping[str, Callable[[], Family]] = {
    "BlipForImageTextRetrieval": blip,
    "Blip2ForImageTextRetrieval": blip_2,
    "ViltForImageAndTextRetrieval": vilt,
    "BridgeTowerForImageAndTextRetrieval": bridgetower,
    "CLIPSegForImageSegmentation": clipseg_segmenter,
    "OwlViTForObjectDetection": owlvit,
    "Owlv2ForObjectDetection": partial(owlvit, 2),
    "GroundingDinoForObjectDetection": grounding_dino,
    "MMGroundingDinoForObjectDetection": mm_grounding_dino,
    "OmDetTurboForObjectDetection": omdet_turbo,
    "Sam3Model": sam3,
}
"""What makes each model."""


def save(kind: str, folder: Path) -> None:
    """Write the folder of a model."""
    family = MAKERS[kind]()
    family.module.save_pretrained(folder)
    family.processor.save_pretrained(folder)
