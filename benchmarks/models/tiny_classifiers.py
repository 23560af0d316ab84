"""Small random classifiers of images of Transformers, timm and torchvision, with what prepares their images.

Nothing here imports nibt. ``save`` writes the folder of a model as its library does.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torchvision
import transformers
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.transforms._presets import ImageClassification

from .tiny_families import randomized

NAMES = (
    "tench, Tinca tinca",
    "goldfish, Carassius auratus",
    "great white shark, white shark, man-eater",
    "crane",
    "tabby, tabby cat",
    "crane",
)
"""The names of the classes, of which two are equal, as in ImageNet."""
_VIT = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3}
_PATCHES = {**_VIT, "image_size": 32, "patch_size": 8}
_SQUARE = {"size": {"height": 32, "width": 32}}
_CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 12, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12, 16], "depths": [1, 1, 2]}
_CONVNEXT = {"num_stages": 3, "hidden_sizes": [8, 12, 16], "depths": [1, 1, 2], "patch_size": 2}
_CONVNEXT_IMAGES = {"size": {"shortest_edge": 32}, "crop_pct": 0.875}

TRANSFORMERS: Mapping[str, tuple[str, Mapping[str, Any], str, Mapping[str, Any]]] = {
    "ViTForImageClassification": ("ViTConfig", _PATCHES, "ViTImageProcessor", _SQUARE),
    "DeiTForImageClassification": ("DeiTConfig", _PATCHES, "DeiTImageProcessor", _SQUARE | {"do_center_crop": False}),
    "DeiTForImageClassificationWithTeacher": (
        "DeiTConfig",
        _PATCHES,
        "DeiTImageProcessor",
        _SQUARE | {"do_center_crop": False},
    ),
    "BeitForImageClassification": (
        "BeitConfig",
        {**_PATCHES, "use_mean_pooling": True, "use_relative_position_bias": True, "layer_scale_init_value": 0.1},
        "BeitImageProcessor",
        _SQUARE | {"do_center_crop": False},
    ),
    "Dinov2ForImageClassification": ("Dinov2Config", _PATCHES, "BitImageProcessor", _CROPPED),
    "Dinov2WithRegistersForImageClassification": (
        "Dinov2WithRegistersConfig",
        {**_PATCHES, "num_register_tokens": 2},
        "BitImageProcessor",
        _CROPPED,
    ),
    "SwinForImageClassification": ("SwinConfig", _SWIN, "ViTImageProcessor", _SQUARE),
    "Swinv2ForImageClassification": ("Swinv2Config", _SWIN, "ViTImageProcessor", _SQUARE),
    "ConvNextForImageClassification": ("ConvNextConfig", _CONVNEXT, "ConvNextImageProcessor", _CONVNEXT_IMAGES),
    "ConvNextV2ForImageClassification": ("ConvNextV2Config", _CONVNEXT, "ConvNextImageProcessor", _CONVNEXT_IMAGES),
    "ResNetForImageClassification": ("ResNetConfig", _RESNET, "ConvNextImageProcessor", _CONVNEXT_IMAGES),
    "RegNetForImageClassification": (
        "RegNetConfig",
        {**_RESNET, "groups_width": 4},
        "ConvNextImageProcessor",
        _CONVNEXT_IMAGES,
    ),
}
"""The configuration of each class, its sizes, and the class and the settings of its processor."""

TIMM: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "timm vit": ("vit_tiny_patch16_224", {"img_size": 64, "depth": 3, "embed_dim": 24, "num_heads": 3}),
    "timm deit": ("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 3, "embed_dim": 24, "num_heads": 3}),
    "timm swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 112, "depths": (1, 1, 2), "embed_dim": 12, "num_heads": (1, 2, 2)},
    ),
    "timm convnext": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}),
    "timm resnet": ("resnet10t", {"pretrained_cfg_overlay": {"input_size": (3, 64, 64)}}),
}
"""The architecture of each model of timm, and its sizes."""

TORCHVISION: Mapping[str, Callable[[], nn.Module]] = {
    "torchvision vit": partial(
        torchvision.models.VisionTransformer,
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=2,
        hidden_dim=24,
        mlp_dim=32,
        num_classes=len(NAMES),
    ),
    "torchvision swin": partial(
        torchvision.models.SwinTransformer,
        patch_size=[2, 2],
        embed_dim=12,
        depths=[1, 2],
        num_heads=[2, 2],
        window_size=[4, 4],
        num_classes=len(NAMES),
    ),
    "torchvision convnext": partial(
        torchvision.models.ConvNeXt, [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)], num_classes=len(NAMES)
    ),
    "torchvision resnet": partial(torchvision.models.resnet18, num_classes=len(NAMES)),
}
"""What makes each model of torchvision."""

KINDS = (*TRANSFORMERS, *TIMM, *TORCHVISION)


def save(kind: str, folder: Path) -> None:
    """Write the folder of a model of Transformers or timm."""
    if kind in TIMM:
        name, sizes = TIMM[kind]
        module = randomized(lambda: timm.create_model(name, num_classes=len(NAMES), **sizes))
        settings = {"label_names": list(NAMES)}
        timm.models.save_for_hf(module, str(folder), model_config=settings, safe_serialization=True)
        return

    configuration, sizes, processor, settings = TRANSFORMERS[kind]
    config = getattr(transformers, configuration)(**sizes, id2label=dict(enumerate(NAMES)))
    randomized(lambda: getattr(transformers, kind)(config)).save_pretrained(folder)
    getattr(transformers, processor)(**settings).save_pretrained(folder)


def of_torchvision(kind: str) -> tuple[nn.Module, ImageClassification]:
    """Return a model of torchvision, and the transform of its weights."""
    side = 64 if kind == "torchvision resnet" else 32  # which is its stride
    return randomized(TORCHVISION[kind]), ImageClassification(crop_size=side, resize_size=side + 4)
