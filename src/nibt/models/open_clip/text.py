"""OpenCLIP's text towers: its own transformer, inside or beside ``CLIP``, and Hugging Face encoders.

The last block of its own transformers, also of images, is computed only for the row that the head reads.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from operator import methodcaller
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from nibt.data.units import Units
from nibt.models._hugging_face import encoder_blocks
from nibt.models._lines import OnTrack, attended, in_heads, rows_of
from nibt.models._text_tower import TextTower
from nibt.models._tower import part
from nibt.models.base import Inputs
from nibt.options import Keywords
from nibt.preprocessing import open_clip as preparation
from nibt.preprocessing.captions import Tokenizer, Tokens
from nibt.types import Embedding, Hidden, OneRow

_BLOCKS = {f"{module}.ResidualAttentionBlock" for module in ("open_clip.transformer", "nibt.models.open_clip.lite")}


class OpenCLIPTextTower(TextTower):
    """Base class of OpenCLIP's text towers."""

    encode_options: ClassVar[Keywords] = {"normalize": False}

    def __init__(self, module: nn.Module, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.module: Any = module
        self.root = self.module
        self.tokenizer = tokenizer
        self.text: Any = getattr(module, "text", module)

    def tokens(self, caption: str) -> Tokens:
        return preparation.tokens(self.tokenizer, caption, self.text.context_length)

    def run(self, inputs: Inputs) -> Embedding:
        return self.module.encode_text(inputs.values, **self.encode_options)


class OwnText(OpenCLIPTextTower):
    """OpenCLIP's ``TextTransformer``, or its parts as attributes of ``CLIP``."""

    blocks = part("text.transformer.resblocks", list)
    embedder = part("text.token_embedding")

    @cached_property
    def pad(self) -> tuple[int, str]:
        if hasattr(self.tokenizer, "byte_decoder"):
            return 0, "<pad>"
        return self.tokenizer.tokenizer.pad_token_id, self.tokenizer.tokenizer.pad_token

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"ids": inputs.values}

    _class_token = part("text", lambda text: getattr(text, "cls_emb", None) is not None)
    """Whether captions end with a class token, as in CoCa."""

    @cached_property
    def _pooled(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The function that returns the pooled rows of a state with some ids: OpenCLIP's own."""
        from open_clip.transformer import text_global_pool

        text = self.text
        pool_type = getattr(text, "pool_type", None) or text.text_pool_type
        end = getattr(text, "eos_id", None) or getattr(text, "text_eos_id", None)
        return partial(text_global_pool, pool_type=pool_type, eos_token_id=end)

    def end_row(self, inputs: Inputs) -> Int[Tensor, " batch"] | None:
        ids = inputs.values
        if self._class_token or self.text.attn_mask is None:  # else the tower is causal
            return None
        positions = torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)
        row = self._pooled(positions[..., None], ids).squeeze(-1)
        return row if row.ndim == 1 else None

    def one_row(
        self, number: int, stream: Tensor | OnTrack, row: Int[Tensor, " batch"], args: tuple, kwargs: Keywords
    ) -> Tensor | None:
        return one_row(self.blocks[number], stream, row, *args, **kwargs)

    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: Keywords) -> Embedding | None:
        positions = torch.arange(stream.shape[1], device=stream.device).expand(len(stream), -1)
        row = positions[:, -1] if self._class_token else self._pooled(positions[..., None], extra["ids"]).squeeze(-1)
        selected = one_row(self.blocks[-1], stream, row, *args, **kwargs) if row.ndim == 1 else None
        return None if selected is None else self.head(selected, {"ids": extra["ids"][:, :1]})

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        text = self.text
        pooled = (
            text.ln_final(stream[:, -1]) if self._class_token else self._pooled(text.ln_final(stream), extra["ids"])
        )
        projection = text.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        words = inputs.words
        assert words is not None
        if stream.shape[1] == inputs.values.shape[1]:
            return words
        tokens = tuple((*row, "<class>") for row in words.tokens)
        return replace(words, tokens=tokens, explained=F.pad(words.explained, (0, 1)))


class HuggingFaceText(OpenCLIPTextTower):
    """A Hugging Face encoder with OpenCLIP's pooler and projection, as in BiomedCLIP."""

    encoder = part("text.transformer")
    blocks = part("encoder", encoder_blocks)
    embedder = part("encoder", methodcaller("get_input_embeddings"))

    @cached_property
    def pad(self) -> tuple[int, str]:
        return self.text.config.pad_token_id, self.tokenizer.tokenizer.pad_token

    def tokens(self, caption: str) -> Tokens:
        return preparation.tokens(self.tokenizer, caption, self.tokenizer.context_length)

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"mask": (inputs.values != self.text.config.pad_token_id).long()}

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        for name in ("final_layer_norm", "layer_norm", "final_norm"):
            stream = getattr(self.encoder, name, nn.Identity())(stream)
        pooler = getattr(self.encoder, "pooler", None)
        output = BaseModelOutputWithPooling(
            last_hidden_state=stream, pooler_output=pooler(stream) if pooler is not None else None
        )
        return self.text.proj(self.text.pooler(output, extra["mask"]))


def one_row(
    block: Any,
    stream: Hidden | OnTrack,
    row: Int[Tensor, " batch"],
    k_x: Tensor | None = None,
    v_x: Tensor | None = None,
    attn_mask: Tensor | None = None,
) -> OneRow | None:
    """Compute one row of each item in the output of a ``ResidualAttentionBlock``, of shape (batch, 1, width)."""
    if f"{type(block).__module__}.{type(block).__name__}" not in _BLOCKS or k_x is not None or v_x is not None:
        return None
    attention = block.attn
    if not isinstance(attention, nn.MultiheadAttention) or attention.in_proj_weight is None:  # OpenCLIP 4 has its own
        return None

    items = torch.arange(len(stream), device=stream.device)
    residual = rows_of(stream, row[:, None])
    heads = attention.num_heads
    biases = (None, None, None) if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
    of_query, of_key, of_value = (
        partial(F.linear, weight=weight, bias=bias)
        for weight, bias in zip(attention.in_proj_weight.chunk(3), biases, strict=True)
    )
    visible = None
    if attn_mask is not None:  # the mask of all rows is common to the batch, or has a part for each item and head
        by_head = attn_mask[None, None] if attn_mask.ndim == 2 else attn_mask.unflatten(0, (len(stream), heads))
        of_row = by_head.expand(len(stream), -1, -1, -1)[items, :, row][:, :, None]
        visible = of_row.to(stream.dtype)

    query = in_heads(of_query(block.ln_1(residual)), heads)
    mixed = attended(stream, block.ln_1, query, (of_key, of_value), visible)
    if mixed is None:
        return None

    residual = residual + block.ls_1(F.linear(mixed, attention.out_proj.weight, attention.out_proj.bias))
    return residual + block.ls_2(block.mlp(block.ln_2(residual)))
