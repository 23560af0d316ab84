"""The embedded model ``lite`` without the import of OpenCLIP and timm, which takes longer than an explanation.

Importing these libraries also imports torchvision's detection models and, with them, torch's compiler. ``lite`` needs
two of their modules, an EfficientNet-Lite2 and a small text transformer. The modules here have their parts and names,
so they read the same weights, and compute the same numbers; a copy of the folder is loaded by OpenCLIP.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from nibt.models._saved import json_object
from nibt.models.open_clip.text import OwnText
from nibt.types import Embedding, Hidden

_STEM = 32
_HEAD = 1280
_STAGES = (
    # blocks, width, expansion, kernel, stride
    (1, 16, 1, 3, 1),
    (3, 24, 6, 3, 2),
    (3, 48, 6, 5, 2),
    (4, 88, 6, 3, 2),
    (4, 120, 6, 5, 1),
    (5, 208, 6, 5, 2),
    (1, 352, 6, 3, 1),
)


class CustomTextCLIP(nn.Module):
    """The parts that nibt needs of OpenCLIP's class of this name, by the same names."""

    def __init__(self, config: dict[str, Any], preprocess: dict[str, Any]) -> None:
        super().__init__()
        vision = config["vision_cfg"]
        self.visual = _Visual(config["embed_dim"], vision["image_size"], vision["timm_proj_bias"])
        self.visual.preprocess_cfg = {"size": vision["image_size"], **preprocess}
        self.text = _TextTransformer(config["embed_dim"], config["text_cfg"])
        self.context_length = self.text.context_length
        self.vocab_size = self.text.vocab_size
        self.logit_scale = nn.Parameter(torch.ones([]))
        self.logit_bias = None

    def encode_image(self, image: Tensor, normalize: bool = False) -> Embedding:
        """Compute the embeddings of images."""
        embedding = self.visual(image)
        return F.normalize(embedding, dim=-1) if normalize else embedding

    def encode_text(self, text: Tensor, normalize: bool = False) -> Embedding:
        """Compute the embeddings of captions, given as token ids."""
        embedding = self.text(text)
        return F.normalize(embedding, dim=-1) if normalize else embedding

    def forward(self, image: Tensor, text: Tensor) -> tuple[Embedding, Embedding, Tensor]:
        return self.encode_image(image, True), self.encode_text(text, True), self.logit_scale.exp()


class _Visual(nn.Module):
    """OpenCLIP's ``TimmModel``: a trunk and a projection."""

    preprocess_cfg: dict[str, Any]

    def __init__(self, width: int, size: int, bias: bool) -> None:
        super().__init__()
        self.image_size = (size, size)
        self.trunk = _EfficientNet()
        projection = nn.Linear(_HEAD, width, bias=bias)
        self.head = nn.Sequential(OrderedDict(drop=nn.Dropout(0.0), proj=projection))

    def forward(self, image: Tensor) -> Embedding:
        return self.head(self.trunk(image))


class _EfficientNet(nn.Module):
    """timm's ``EfficientNet`` in the variant lite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _convolution(3, _STEM, 3, 2)
        self.bn1 = _NormAct(_STEM)

        stages = []
        width = _STEM
        for count, out, expansion, kernel, stride in _STAGES:
            blocks = [_block(width, out, expansion, kernel, stride)]
            blocks += [_block(out, out, expansion, kernel, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            width = out

        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(width, _HEAD, 1, 1)
        self.bn2 = _NormAct(_HEAD)
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))

    def forward(self, image: Tensor) -> Tensor:
        stream = self.bn1(self.conv_stem(image))
        stream = self.blocks(stream)
        return self.global_pool(self.bn2(self.conv_head(stream)))


class _NormAct(nn.BatchNorm2d):
    """A batch norm, and ReLU6 after it."""

    def __init__(self, width: int, act: bool = True) -> None:
        super().__init__(width, eps=1e-3)
        self.act = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class _SamePadded(nn.Conv2d):
    """A convolution with the padding of TensorFlow, which depends on the size of the image."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = (
            max((-(-side // stride) - 1) * stride + kernel - side, 0)
            for side, stride, kernel in zip(input.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        padded = F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(padded)


def _convolution(width: int, out: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    if stride > 1:
        return _SamePadded(width, out, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(width, out, kernel, padding=(kernel - 1) // 2, groups=groups, bias=False)


def _block(width: int, out: int, expansion: int, kernel: int, stride: int) -> nn.Module:
    if expansion == 1:
        return _DepthwiseSeparable(width, out, kernel)
    return _InvertedResidual(width, out, expansion, kernel, stride)


class _DepthwiseSeparable(nn.Module):
    def __init__(self, width: int, out: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw = _convolution(width, width, kernel, 1, groups=width)
        self.bn1 = _NormAct(width)
        self.conv_pw = _convolution(width, out, 1, 1)
        self.bn2 = _NormAct(out, act=False)

    def forward(self, stream: Tensor) -> Tensor:
        stream = self.bn1(self.conv_dw(stream))
        return self.bn2(self.conv_pw(stream))


class _InvertedResidual(nn.Module):
    def __init__(self, width: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = expansion * width
        self.has_skip = stride == 1 and width == out
        self.conv_pw = _convolution(width, inner, 1, 1)
        self.bn1 = _NormAct(inner)
        self.conv_dw = _convolution(inner, inner, kernel, stride, groups=inner)
        self.bn2 = _NormAct(inner)
        self.conv_pwl = _convolution(inner, out, 1, 1)
        self.bn3 = _NormAct(out, act=False)

    def forward(self, stream: Tensor) -> Tensor:
        inner = self.bn1(self.conv_pw(stream))
        inner = self.bn2(self.conv_dw(inner))
        changed = self.bn3(self.conv_pwl(inner))
        return changed + stream if self.has_skip else changed


class ResidualAttentionBlock(nn.Module):
    """OpenCLIP's block of this name without layer scale."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        inner = int(ratio * width)
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, inner), "gelu": nn.GELU(), "c_proj": nn.Linear(inner, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ls_2 = nn.Identity()

    def forward(self, q_x: Hidden, attn_mask: Tensor | None = None) -> Hidden:
        normed = self.ln_1(q_x)
        mask = None if attn_mask is None else attn_mask.to(q_x.dtype)
        stream = q_x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return stream + self.mlp(self.ln_2(stream))


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([ResidualAttentionBlock(width, heads, ratio) for _ in range(layers)])

    def forward(self, stream: Hidden, attn_mask: Tensor) -> Hidden:
        for block in self.resblocks:
            stream = block(stream, attn_mask=attn_mask)
        return stream


class _TextTransformer(nn.Module):
    """OpenCLIP's ``TextTransformer`` with a causal mask, whose embedding is that of the token with the highest id."""

    attn_mask: Tensor

    def __init__(self, dim: int, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["width"]
        self.context_length = config["context_length"]
        self.vocab_size = config["vocab_size"]
        # on the meta device, drawing normal numbers would import torch's compiler
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(self.vocab_size, width), freeze=False)
        self.positional_embedding = nn.Parameter(torch.zeros(self.context_length, width))
        self.transformer = _Transformer(width, config["layers"], config["heads"], config["mlp_ratio"])
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, dim))
        mask = torch.full((self.context_length, self.context_length), float("-inf"), device="cpu").triu_(1)
        self.register_buffer("attn_mask", mask, persistent=False)

    def forward(self, text: Tensor) -> Embedding:
        stream = self.token_embedding(text) + self.positional_embedding[: text.shape[1]]
        stream = self.transformer(stream, self.attn_mask)
        return rows_of_end(self.ln_final(stream), text) @ self.text_projection


def rows_of_end(rows: Tensor, ids: Tensor) -> Tensor:
    """Return the row of the end token of each item, which has the highest id."""
    return rows[torch.arange(len(rows), device=rows.device), ids.argmax(-1)]


class LiteText(OwnText):
    """The text tower of ``lite``."""

    @cached_property
    def _pooled(self) -> Callable[[Tensor, Tensor], Tensor]:
        return rows_of_end


class Tokenizer:
    """OpenCLIP's ``HFTokenizer``."""

    def __init__(self, folder: Path, context: int) -> None:
        from transformers import PreTrainedTokenizerFast

        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.context_length = context

    def clean_fn(self, text: str) -> str:
        """Return a text as OpenCLIP cleans it: with correct characters, and one space between words."""
        if text.isascii() and text.isprintable() and "&" not in text:  # there is nothing to correct
            return " ".join(text.split())

        from open_clip.tokenizer import get_clean_fn

        return get_clean_fn("whitespace")(text)

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> Tensor:
        cleaned = [self.clean_fn(text) for text in ([texts] if isinstance(texts, str) else texts)]
        length = context_length or self.context_length
        options = {"max_length": length, "padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(cleaned, **options).input_ids


def load(folder: Path, tokenizer: Any) -> tuple[nn.Module, Any]:
    """Return the model of a folder, and its tokenizer, unless one is given."""
    config = json_object(folder / "open_clip_config.json")
    with torch.device("meta"):  # the weights are read, so drawing them is not needed
        module = CustomTextCLIP(config["model_cfg"], config["preprocess_cfg"])

    module.load_state_dict(load_file(folder / "open_clip_model.safetensors"), assign=True)
    return module, tokenizer or Tokenizer(folder, module.context_length)
