"""OpenCLIP's image towers: its own ViT, timm's ViTs, and convolutional trunks."""

from contextlib import ExitStack
from functools import cached_property
from typing import Any

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn

from nibt.data.units import Grid, Units
from nibt.errors import Unsupported
from nibt.models._hooks import set_hook
from nibt.models._request import Request
from nibt.models._tower import part
from nibt.models.base import FeatureMapTower, ImageTower, Inputs
from nibt.models.open_clip.text import one_row
from nibt.models.open_clip.timm_rows import first_rows, reads_class_token
from nibt.options import Keywords
from nibt.preprocessing import open_clip as preparation
from nibt.preprocessing.images import height_and_width
from nibt.types import Embedding, Hidden


class OpenCLIPImageTower(ImageTower):
    """Base class of OpenCLIP's image towers."""

    def __init__(self, module: Any, request: Request) -> None:
        super().__init__()
        self.root = self.module = module
        self.visual = module.visual
        # a model created in memory has only its image size
        config = PreprocessCfg(**(getattr(self.visual, "preprocess_cfg", None) or {"size": _input_size(self.visual)}))
        transform = request.processor or image_transform_v2(config, is_train=False)
        self.preparation = preparation.image_preparation(
            config, transform, request.resize, request.image_size, self.multiple()
        )

    def multiple(self) -> int | None:
        """Return the number of which the sides of an image are multiples; None if the tower takes one size only."""
        return None

    def run(self, inputs: Inputs) -> Embedding:
        return self.module.encode_image(inputs.values, normalize=False)


def _input_size(visual: Any) -> Any:
    """Return the size of the images that a tower takes, for which OpenAI's package has another name."""
    return visual.image_size if hasattr(visual, "image_size") else visual.input_resolution


class OwnViT(OpenCLIPImageTower):
    """OpenCLIP's ``VisionTransformer``, with a class token, average pooling or attention pooling."""

    @cached_property
    def blocks(self) -> list[nn.Module]:
        return list(self.visual.transformer.resblocks)

    entry = part("visual.ln_pre")

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        pooled, _ = self.visual._pool(stream)
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def first_rows(self, number: int, stream: Tensor, count: int, args: tuple, kwargs: Keywords) -> Tensor | None:
        if count > 1:
            return None
        return one_row(self.blocks[number], stream, stream.new_zeros(len(stream), dtype=torch.long), *args, **kwargs)

    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: Keywords) -> Embedding | None:
        if self.visual.attn_pool is not None or self.visual.pool_type != "tok":
            return None
        row = self.first_rows(self.depth - 1, stream, 1, args, kwargs)
        return None if row is None else self.head(row, extra)

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(*self.visual.grid_size, prefix=1)


class TimmViT(OpenCLIPImageTower):
    """timm's transformers with a plain sequence of blocks: ViT, EVA, and NaFlexViT with images instead of patches."""

    @cached_property
    def patches(self) -> Any:
        """The layer that makes patches; that of NaFlexViT takes images of any size."""
        trunk = self.visual.trunk
        return trunk.patch_embed if hasattr(trunk, "patch_embed") else trunk.embeds

    def multiple(self) -> int | None:
        trunk = self.visual.trunk
        dynamic = getattr(trunk, "dynamic_img_size", hasattr(trunk, "embeds"))
        return self.patches.feat_ratio() if dynamic else None

    @cached_property
    def blocks(self) -> list[nn.Module]:
        return list(self.visual.trunk.blocks)

    @cached_property
    def entry(self) -> nn.Module:
        return getattr(self.visual.trunk, "norm_pre", self.blocks[0])  # relative positions: no norm before the blocks

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        trunk = self.visual.trunk
        return self.visual.head(trunk.forward_head(trunk.norm(stream)))

    def first_rows(self, number: int, stream: Tensor, count: int, args: tuple, kwargs: Keywords) -> Tensor | None:
        return None if args else first_rows(self.blocks[number], stream, count, **kwargs)

    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: Keywords) -> Embedding | None:
        if not reads_class_token(self.visual.trunk):
            return None
        row = self.first_rows(self.depth - 1, stream, 1, args, kwargs)
        return None if row is None else self.head(row, extra)

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        trunk = self.visual.trunk
        return Grid(*self.patches.dynamic_feat_size(inputs.values.shape[-2:]), prefix=trunk.num_prefix_tokens)


class ConvolutionalTower(FeatureMapTower, OpenCLIPImageTower):
    """A sequence of convolutional stages: OpenCLIP's ``ModifiedResNet`` and timm's convolutional trunks.

    One forward pass determines which parts the trunk calls after its stages.
    """

    def __init__(self, module: Any, request: Request) -> None:
        self.trunk = getattr(module.visual, "trunk", module.visual)
        self.stages = _stages(self.trunk)
        self.tail, self.stride = _find_tail(self.trunk, self.stages, module.visual)
        super().__init__(module, request)

    def multiple(self) -> int | None:
        pooled_anywhere = self.trunk is not self.visual and "pool" not in dict(self.visual.head.named_children())
        return self.stride if pooled_anywhere else None

    blocks = part("stages")

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        for module in self.tail:
            stream = module(stream)
        return self.visual.head(stream) if self.trunk is not self.visual else stream


class SwinTower(ConvolutionalTower):
    """timm's Swin trunks: stages of windowed attention, with channels last. They take images of one size only."""

    positional = True

    def multiple(self) -> int | None:
        return None

    def to_tokens(self, stream: Tensor) -> Hidden:
        return stream.flatten(1, 2)

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        return tokens.unflatten(1, like.shape[1:3])

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(*stream.shape[1:3])


def _stages(trunk: nn.Module) -> list[nn.Module]:
    for name in ("stages", "blocks", "layers"):
        if hasattr(trunk, name):
            return list(getattr(trunk, name))
    for name in ("layer{}", "s{}"):  # ResNets, RegNets
        stages = [getattr(trunk, name.format(i), None) for i in range(1, 5)]
        if all(stages):
            return stages  # pyright: ignore
    raise Unsupported(
        f"the stages of {type(trunk).__name__} are not supported; use a timm trunk with stages or blocks, a ResNet "
        "or a RegNet"
    )


def _find_tail(trunk: nn.Module, stages: list[nn.Module], visual: Any) -> tuple[list[nn.Module], int]:
    """Return the parts that a trunk calls after its last stage, in order, and the stride of the last feature map."""
    example = next(trunk.parameters())
    height, width = height_and_width(_input_size(visual))
    maps: list[Any] = []
    tail: list[nn.Module] = []

    def before(module: nn.Module, _: Any) -> None:
        if maps:  # the last stage has run
            tail.append(module)

    with ExitStack() as hooks, torch.no_grad():
        for child in trunk.children():
            hooks.enter_context(set_hook(child.register_forward_pre_hook, before))
        hooks.enter_context(set_hook(stages[-1].register_forward_hook, lambda module, _, out: maps.append(out)))
        trunk(torch.zeros(1, 3, height, width, device=example.device, dtype=example.dtype))
    if len(maps) != 1 or maps[0].ndim != 4:
        raise Unsupported(f"the stages of {type(trunk).__name__} do not give feature maps of (channel, row, column)")
    # Where height is no multiple of the stride, height / rows is not the stride; timm's trunks know it.
    feature_info = getattr(trunk, "feature_info", None)
    return tail, feature_info[-1]["reduction"] if feature_info else round(height / maps[0].shape[-2])


def channels_last(trunk: Any) -> bool:
    """Return whether the feature maps of a trunk of timm have the shape (batch, row, column, channel)."""
    return getattr(trunk, "output_fmt", "NCHW") == "NHWC"
