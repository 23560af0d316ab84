"""Classifiers of images: of Transformers (``...ForImageClassification``), of timm and of torchvision.

Their texts are the names of their classes, and the score of an image and a class is the logit of the model. Layers are
those of the image encoder; the logits of all classes are the embedding of an image, and a class has a unit vector.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nibt.data.units import Grid, Units
from nibt.errors import CannotLoad
from nibt.models._family import Family, class_names
from nibt.models._heads import ClassTokenTower
from nibt.models._hugging_face import load_pretrained, read_config
from nibt.models._labels import ClassNamesTower
from nibt.models._request import LoadRequest
from nibt.models._saved import check_built, json_object
from nibt.models._stages import find_tail, run_tail, stages_of
from nibt.models._text_tower import TextTower
from nibt.models._tower import part
from nibt.models.base import FeatureMapTower, ImageTower, Inputs
from nibt.preprocessing import hugging_face
from nibt.preprocessing import torchvision as preparation
from nibt.targets.base import ClassLogit
from nibt.types import Embedding, Hidden

_STRIDE = 32  # of the last feature map of ConvNeXt and ResNet
_NAMES = (
    "pass labels, the names of its classes in the order of the model: load_model(..., labels=[...]), or a text file "
    "with one a line, --load labels=FILE"
)


class Classifier(Family):
    """Base class of families of classifiers."""

    needs_processor = True
    reads_text = False
    has_logits = False
    similarity = ClassLogit()

    @classmethod
    def towers(cls, module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        names = request.labels or cls.label_names(module)
        count = cls.class_count(module)
        if not names:
            raise CannotLoad(f"the {count:,} classes of this {type(module).__name__} have no names: {_NAMES}")
        if len(names) != count:
            raise CannotLoad(f"the model has {count:,} classes (got {len(names):,} names): {_NAMES}")
        return cls.image_tower(module, request), ClassNamesTower(module, names)

    @classmethod
    @abstractmethod
    def image_tower(cls, module: nn.Module, request: LoadRequest) -> ImageTower:
        """Return the tower of images, whose embedding is the logits of all classes: (1, class)."""

    @classmethod
    @abstractmethod
    def class_count(cls, module: nn.Module) -> int:
        """Return the number of classes."""

    @classmethod
    @abstractmethod
    def label_names(cls, module: nn.Module) -> Sequence[str]:
        """Return the names of the classes that come with a model; none if it has none."""


# Transformers


class TokenClassifier(ClassTokenTower):
    """The encoder of ``ViTForImageClassification`` and others with a plain sequence of patches after a class token."""

    vision = part("root", lambda root: getattr(root, root.base_model_prefix))
    vision_config = part("root.config")
    norm = part("vision.layernorm")

    @cached_property
    def prefix(self) -> int:  # pyright: ignore
        """The number of tokens before the patches: the class token, that of distillation, and registers."""
        distills = hasattr(self.vision.embeddings, "distillation_token")
        return 1 + distills + getattr(self.vision_config, "num_register_tokens", 0)

    @cached_property
    def interpolates(self) -> bool:  # pyright: ignore
        """Whether the model interpolates positions without the option, as DINOv2."""
        return "Dinov2" in type(self.vision).__name__

    @cached_property
    def reads_first_row(self) -> bool:  # pyright: ignore
        """Whether the head reads the class token only."""
        pools = getattr(getattr(self.vision, "pooler", None), "layernorm", None) is not None
        return not (self.interpolates or pools or self.is_taught)

    @cached_property
    def is_taught(self) -> bool:  # pyright: ignore
        """Whether the logits are the mean of two heads, of the class token and of that of distillation."""
        return hasattr(self.root, "distillation_classifier")

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values, **self.size_options(inputs)).logits[:, None]

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        rows = self.norm(stream)
        if self.is_taught:
            of_class = self.root.cls_classifier(rows[:, 0])
            of_teacher = self.root.distillation_classifier(rows[:, 1])
            return ((of_class + of_teacher) / 2)[:, None]
        if self.interpolates:
            pooled = torch.cat([rows[:, 0], rows[:, self.prefix :].mean(1)], 1)
        elif getattr(self.vision, "pooler", None) is not None:  # BEiT
            pooled = self.vision.pooler(rows)
        else:
            pooled = rows[:, 0]
        return self.root.classifier(pooled)[:, None]


class StageClassifier(FeatureMapTower):
    """The stages of ``ResNetForImageClassification``, ``RegNet...`` and ``ConvNext...``."""

    root: Any
    any_size = True

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        native = hugging_face.native_size(request.image_processor)
        self.preparation = hugging_face.image_preparation(
            request.image_processor, request.resize, request.image_size, native, _STRIDE if self.any_size else None
        )

    vision = part("root", lambda root: getattr(root, root.base_model_prefix))
    blocks = part("vision.encoder.stages", list)

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values).logits[:, None]

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        vision = self.vision
        pooled = vision.layernorm(stream.mean([-2, -1])) if hasattr(vision, "layernorm") else vision.pooler(stream)
        return self.root.classifier(pooled)[:, None]


class WindowClassifier(StageClassifier):
    """The stages of ``SwinForImageClassification`` and ``Swinv2ForImageClassification``, whose states are rows."""

    any_size = False
    positional = True
    blocks = part("vision.encoder.layers", list)

    def to_tokens(self, stream: Tensor) -> Hidden:
        return stream

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        return tokens

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        pooled = self.vision.pooler(self.vision.layernorm(stream).transpose(1, 2)).flatten(1)
        return self.root.classifier(pooled)[:, None]

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        height, width = self.extent(inputs)
        rows = round((stream.shape[1] * height / width) ** 0.5)
        return Grid(rows, stream.shape[1] // rows)


class TransformersClassifier(Classifier, name="classifier"):
    """``ViTForImageClassification`` and other classes of Transformers that classify images.

    They are those of ViT, DeiT, BEiT, DINOv2 (with registers, too), Swin, Swin v2, ConvNeXt, ConvNeXt v2, ResNet and
    RegNet. The names of classes are ``id2label`` of the configuration.
    """

    @classmethod
    def load(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        import transformers

        name = next(name for name in read_config(source).architectures if name in cls.class_names)
        return load_pretrained(getattr(transformers, name), source, request, reads_text=False)

    @classmethod
    def image_tower(cls, module: nn.Module, request: LoadRequest) -> ImageTower:
        (name, *_) = (name for name in cls.class_names if name in class_names(module))
        if name.startswith("Swin"):
            return WindowClassifier(module, request)
        is_staged = name.startswith(("ConvNext", "ResNet", "RegNet"))
        return StageClassifier(module, request) if is_staged else TokenClassifier(module, request)

    @classmethod
    def class_count(cls, module: nn.Module) -> int:
        return module.config.num_labels  # pyright: ignore

    @classmethod
    def label_names(cls, module: nn.Module) -> Sequence[str]:
        names: Mapping[int, str] = module.config.id2label  # pyright: ignore
        return [str(names[number]) for number in sorted(names)]


# timm and torchvision


class TimmTokens(ImageTower):
    """timm's transformers with a plain sequence of blocks: ViT, DeiT, EVA and others of these classes."""

    root: Any

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        dynamic = getattr(root, "dynamic_img_size", False)
        multiple = self.patches.feat_ratio() if dynamic else None
        self.preparation = preparation.image_preparation(
            request.processor, request.resize, request.image_size, multiple
        )

    patches = part("root.patch_embed")
    blocks = part("root.blocks", list)
    entry = part("root", lambda root: getattr(root, "norm_pre", root.blocks[0]))

    @cached_property
    def reads_first_row(self) -> bool:  # pyright: ignore
        """Whether the head reads the class token only."""
        pools = getattr(self.root, "attn_pool", None) is not None
        return not pools and self.root.global_pool == "token" and self.root.num_prefix_tokens > 0

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values)[:, None]

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.root.forward_head(self.root.norm(stream))[:, None]

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        size = self.patches.dynamic_feat_size(inputs.values.shape[-2:])
        return Grid(*size, prefix=self.root.num_prefix_tokens)


class TorchvisionTokens(ImageTower):
    """torchvision's ``VisionTransformer``."""

    root: Any
    reads_first_row = True

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        self.preparation = preparation.image_preparation(request.processor, request.resize, request.image_size, None)

    blocks = part("root.encoder.layers", list)

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values)[:, None]

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.root.heads(self.root.encoder.ln(stream)[:, 0])[:, None]

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        height, width = self.extent(inputs)
        return Grid(height // self.root.patch_size, width // self.root.patch_size, prefix=1)


class Stages(FeatureMapTower):
    """A sequence of convolutional stages of timm or torchvision.

    One forward pass determines which parts the model calls after its stages.
    """

    root: Any
    channels_last = False

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        self.stages = stages_of(root)
        read = preparation.image_preparation(request.processor, None, None, None)
        size = read.resize.height, read.resize.width
        self.tail, stride = find_tail(root, self.stages, size, self.channels_last)
        self.preparation = preparation.image_preparation(
            request.processor, request.resize, request.image_size, None if self.channels_last else stride
        )

    blocks = part("stages")

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values)[:, None]

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return run_tail(self.tail, stream)[:, None]


class WindowStages(Stages):
    """The stages of windowed attention of a Swin transformer of timm or torchvision, with channels last."""

    channels_last = True
    positional = True

    def to_tokens(self, stream: Tensor) -> Hidden:
        return stream.flatten(1, 2)

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        return tokens.unflatten(1, like.shape[1:3])

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(*stream.shape[1:3])


class TorchvisionClassifier(Classifier, name="torchvision_classifier"):
    """Classifiers of torchvision in memory, with the transform of their weights and the names of their classes.

    They are its ViT, Swin, ResNet, ConvNeXt, EfficientNet and others that are a sequence of stages.
    """

    @staticmethod
    def load(source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        raise CannotLoad("a model of torchvision is given in memory: load_model(model, processor=..., labels=[...])")

    @classmethod
    def image_tower(cls, module: nn.Module, request: LoadRequest) -> ImageTower:
        names = class_names(module)
        if "VisionTransformer" in names:
            return TorchvisionTokens(module, request)
        return (WindowStages if "SwinTransformer" in names else Stages)(module, request)

    @classmethod
    def class_count(cls, module: nn.Module) -> int:
        return [part for part in module.modules() if isinstance(part, nn.Linear)][-1].out_features

    @classmethod
    def label_names(cls, module: nn.Module) -> Sequence[str]:
        return ()


_IMAGENET = 1000  # classes


class TimmClassifier(Classifier, name="timm_classifier"):
    """Classifiers of timm, in memory or in a folder of its format, whose ``config.json`` has an ``architecture``.

    They are its ViT, EVA and Swin transformers, and convolutional models that are a sequence of stages. The names of
    classes are ``label_names`` of the configuration; those of ImageNet are known for weights with such a tag.
    """

    needs_processor = False

    @classmethod
    def load(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        import timm

        folder = Path(source)
        config = json_object(folder / "config.json")
        name = f"local-dir:{folder}"
        check_built(source, folder, "config.json", lambda: timm.create_model(name, pretrained=False))
        module: Any = timm.create_model(name, pretrained=True).to(request.dtype)
        for key in ("label_names", "label_descriptions"):
            module.pretrained_cfg.setdefault(key, None)
            module.pretrained_cfg[key] = config.get(key) or module.pretrained_cfg[key]
        return module, replace(request, processor=request.processor or _transform(module))

    @classmethod
    def image_tower(cls, module: nn.Module, request: LoadRequest) -> ImageTower:
        if request.processor is None:
            request = replace(request, processor=_transform(module))
        if not class_names(module).isdisjoint(("VisionTransformer", "Eva")):
            return TimmTokens(module, request)
        channels_last = getattr(module, "output_fmt", "NCHW") == "NHWC"
        return (WindowStages if channels_last else Stages)(module, request)

    @classmethod
    def class_count(cls, module: nn.Module) -> int:
        return module.num_classes  # pyright: ignore

    @classmethod
    def label_names(cls, module: nn.Module) -> Sequence[str]:
        settings: Mapping[str, Any] = module.pretrained_cfg  # pyright: ignore
        names = settings.get("label_names")
        if names:
            names = [names[key] for key in sorted(names, key=int)] if isinstance(names, Mapping) else names
            described = settings.get("label_descriptions") or {}
            return [str(described.get(name, name)) for name in names]

        tag = str(settings.get("tag") or "")
        if not (tag.endswith("in1k") and cls.class_count(module) == _IMAGENET):
            return ()

        from timm.data import ImageNetInfo

        info = ImageNetInfo("imagenet-1k")
        return [info.index_to_description(number) for number in range(_IMAGENET)]


def _transform(module: nn.Module) -> Any:
    """Return the transform with which timm evaluates a model."""
    from timm.data import create_transform, resolve_model_data_config

    return create_transform(**resolve_model_data_config(module))
