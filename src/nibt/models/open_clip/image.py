"""OpenCLIP's image towers: its own ViT, timm's ViTs, and convolutional trunks."""

from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nibt.data.units import Grid, Units
from nibt.models._lines import LinearMap, OnTrack, attended, in_heads, rows_of
from nibt.models._request import LoadRequest
from nibt.models._stages import find_tail, stages_of
from nibt.models._tower import first_of, part
from nibt.models.base import FeatureMapTower, ImageTower, Inputs
from nibt.models.open_clip.text import one_row
from nibt.options import Keywords
from nibt.preprocessing import open_clip as preparation
from nibt.preprocessing.images import height_and_width
from nibt.torch_modes import has_hooks
from nibt.types import Embedding, Hidden

_TRUNKS = {"VisionTransformer", "NaFlexVit", "Eva"}
_BLOCKS = {"timm.models.vision_transformer.Block", "timm.models.eva.EvaBlock"}  # BEiT has other blocks of that name
_ATTENTIONS = {"Attention", "EvaAttention", "AttentionRope"}
_PERCEPTRONS = {"Mlp", "GluMlp", "SwiGLU"}  # others mix rows


def reads_class_token(trunk: Any) -> bool:
    """Return whether the head of a trunk reads only the class token, the first row."""
    return (
        type(trunk).__name__ in _TRUNKS
        and getattr(trunk, "attn_pool", None) is None
        and trunk.global_pool == "token"
        and trunk.num_prefix_tokens > 0
    )


def first_rows(
    block: Any,
    stream: Hidden | OnTrack,
    count: int,
    rope: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    **others: object,
) -> Tensor | None:
    """Compute the first rows of each item in the output of a block, of shape (batch, count, width).

    These tokens have no place, so their queries are not rotated; the keys of the patches are.
    """
    if attn_mask is not None or is_causal or any(value is not None for value in others.values()):
        return None
    if f"{type(block).__module__}.{type(block).__name__}" not in _BLOCKS or block.training:
        return None

    if type(block.mlp).__name__ not in _PERCEPTRONS:
        return None

    first = rows_of(stream, torch.arange(count, device=stream.device).expand(len(stream), -1))
    mixed = _attend(block.attn, block.norm1, stream, first, rope)
    if mixed is None:
        return None

    residual = first + _scaled(block, 1, mixed)
    return residual + _scaled(block, 2, block.mlp(block.norm2(residual)))


def _attend(
    attention: Any,
    norm: nn.Module,
    stream: Hidden | OnTrack,
    first: Float[Tensor, "batch row width"],
    rope: Tensor | None,
) -> Tensor | None:
    """Compute the first rows of an attention; None for other classes than timm's three, or for rotated rows."""
    if type(attention).__name__ not in _ATTENTIONS or has_hooks(attention):
        return None
    if rope is not None and first.shape[1] > attention.num_prefix_tokens:
        return None

    maps = _maps(attention)
    has_plain_keys = isinstance(attention.k_norm, nn.Identity)
    if maps is None or (isinstance(stream, OnTrack) and not has_plain_keys):
        return None

    of_query, *others = maps
    normed = norm(first)
    query = attention.q_norm(in_heads(of_query(normed), attention.num_heads))
    mixed = attended(stream, norm, query, (others[0], others[1]), place=partial(_placed, attention, rope))
    if mixed is None:
        return None

    mixed = getattr(attention, "norm", nn.Identity())(mixed)
    gate = getattr(attention, "gate", None)
    return attention.proj(mixed if gate is None else mixed * gate(normed).sigmoid())


def _placed(attention: Any, rope: Tensor | None, key: Tensor) -> Tensor:
    """Return keys in heads, normalized and, after the prefix, rotated by their places."""
    key = attention.k_norm(key)
    if rope is None:
        return key

    from timm.layers import apply_rot_embed_cat

    prefix = attention.num_prefix_tokens
    half = {"half": True} if getattr(attention, "rotate_half", False) else {}
    turned = apply_rot_embed_cat(key[:, :, prefix:], rope, **half)
    return torch.cat([key[:, :, :prefix], turned], 2)


def _maps(attention: Any) -> tuple[LinearMap, LinearMap, LinearMap] | None:
    """Return the linear maps of queries, keys and values; None for other projections."""
    joint = attention.qkv
    if joint is None:
        if getattr(attention, "num_kv_groups", 1) > 1:
            return None
        return attention.q_proj, attention.k_proj, attention.v_proj
    if type(joint) is not nn.Linear:  # adapted or quantized, so its weight does not say what it computes
        return None

    biases = (None, None, None) if joint.bias is None else joint.bias.chunk(3)
    if getattr(attention, "q_bias", None) is not None:
        biases = attention.q_bias, attention.k_bias, attention.v_bias
    query, key, value = (
        partial(F.linear, weight=weight, bias=bias) for weight, bias in zip(joint.weight.chunk(3), biases, strict=True)
    )
    return query, key, value


def _scaled(block: nn.Module, number: int, rows: Tensor) -> Tensor:
    """Scale the output of the attention (1) or of the perceptron (2), as each class of blocks does it."""
    gamma = getattr(block, f"gamma_{number}", None)
    return getattr(block, f"ls{number}", nn.Identity())(rows if gamma is None else gamma * rows)


_input_size = first_of("image_size", "input_resolution")
"""Returns the size of the images that a tower takes, for which OpenAI's package has another name."""


class OpenCLIPImageTower(ImageTower):
    """Base class of OpenCLIP's image towers."""

    encode_options: ClassVar[Keywords] = {"normalize": False}

    def __init__(self, module: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.module: Any = module
        self.root = self.module
        self.visual = self.module.visual
        # a model created in memory has only its image size
        config = getattr(self.visual, "preprocess_cfg", None) or {"size": _input_size(self.visual)}
        transform = request.processor
        if request.resize != "whole":  # else OpenCLIP, which takes seconds to import, is not needed
            from open_clip.transform import PreprocessCfg, image_transform_v2

            settings = PreprocessCfg(**config)
            config = asdict(settings)
            transform = transform or image_transform_v2(settings, is_train=False)

        self.preparation = preparation.image_preparation(
            config, transform, request.resize, request.image_size, self.multiple()
        )

    def multiple(self) -> int | None:
        """Return the number of which the sides of an image are multiples; None if the tower takes one size only."""
        return None

    def run(self, inputs: Inputs) -> Embedding:
        return self.module.encode_image(inputs.values, **self.encode_options)


class OwnViT(OpenCLIPImageTower):
    """OpenCLIP's ``VisionTransformer``, with a class token, average pooling or attention pooling."""

    blocks = part("visual.transformer.resblocks", list)
    entry = part("visual.ln_pre")
    reads_first_row = part("visual", lambda visual: visual.attn_pool is None and visual.pool_type == "tok")

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        pooled, _ = self.visual._pool(stream)
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def first_rows(
        self, number: int, stream: Tensor | OnTrack, count: int, args: tuple, kwargs: Keywords
    ) -> Tensor | None:
        if count > 1:
            return None
        return one_row(self.blocks[number], stream, stream.new_zeros(len(stream), dtype=torch.long), *args, **kwargs)

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(*self.visual.grid_size, prefix=1)


class TimmViT(OpenCLIPImageTower):
    """timm's transformers with a plain sequence of blocks: ViT, EVA, and NaFlexViT with images instead of patches."""

    patches = part("visual.trunk", first_of("patch_embed", "embeds"))
    """The layer that makes patches; that of NaFlexViT takes images of any size."""

    def multiple(self) -> int | None:
        trunk = self.visual.trunk
        dynamic = getattr(trunk, "dynamic_img_size", hasattr(trunk, "embeds"))
        return self.patches.feat_ratio() if dynamic else None

    blocks = part("visual.trunk.blocks", list)
    reads_first_row = part("visual.trunk", reads_class_token)

    # with relative positions, there is no norm before the blocks
    entry = part("visual.trunk", lambda trunk: getattr(trunk, "norm_pre", trunk.blocks[0]))

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        trunk = self.visual.trunk
        return self.visual.head(trunk.forward_head(trunk.norm(stream)))

    def first_rows(
        self, number: int, stream: Tensor | OnTrack, count: int, args: tuple, kwargs: Keywords
    ) -> Tensor | None:
        return None if args else first_rows(self.blocks[number], stream, count, **kwargs)

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        trunk = self.visual.trunk
        return Grid(*self.patches.dynamic_feat_size(inputs.values.shape[-2:]), prefix=trunk.num_prefix_tokens)


class ConvolutionalTower(FeatureMapTower, OpenCLIPImageTower):
    """A sequence of convolutional stages: OpenCLIP's ``ModifiedResNet`` and timm's convolutional trunks.

    One forward pass determines which parts the trunk calls after its stages.
    """

    def __init__(self, module: nn.Module, request: LoadRequest) -> None:
        visual: Any = module.visual
        self.trunk = getattr(visual, "trunk", visual)
        self.stages = stages_of(self.trunk)
        self.tail, self.stride = find_tail(self.trunk, self.stages, height_and_width(_input_size(visual)))
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
