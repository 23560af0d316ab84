"""What the families on Hugging Face Transformers share: reading a checkpoint, its processors, its answers."""

from dataclasses import replace
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from nibt.errors import CannotLoad
from nibt.models._last_row import picked, replace_forward, seen_from
from nibt.models._request import Request
from nibt.models.base import TextTower
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import Tokens
from nibt.types import Embedding, Hidden, OneRow


def load_pretrained(kind: Any, source: str, request: Request) -> tuple[nn.Module, Request]:
    """A checkpoint and its processor.

    Safetensors, or a pickled state dict through torch's weights-only reader; code that a checkpoint brings along is
    never run.

    Raises:
        CannotLoad: Weights are missing in the file (they would be random), or there is no processor.
    """
    module, info = kind.from_pretrained(
        source, dtype=request.dtype, trust_remote_code=False, weights_only=True, output_loading_info=True
    )
    if info["missing_keys"]:
        raise CannotLoad(
            f"{source!r} lacks {len(info['missing_keys'])} weights, the first is {sorted(info['missing_keys'])[0]!r}: "
            "the model would be partly random"
        )
    return module, with_processor(source, request)


def with_processor(source: str, request: Request) -> Request:
    """The request with the processor and the tokeniser that lie beside a checkpoint."""
    from transformers import AutoImageProcessor, AutoTokenizer

    try:
        processor = request.processor or AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        tokenizer = request.tokenizer or getattr(request.processor, "tokenizer", None)
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # what Transformers makes where there is no file
            raise ValueError("the tokeniser knows no words")
    except (OSError, TypeError, ValueError) as error:  # a TypeError where Transformers finds the file's name to be None
        raise CannotLoad(
            f"{source!r} has no image processor or no tokeniser that Transformers can read ({_line(error)}); save the "
            "processor beside the model, or give processor=..."
        ) from error
    return replace(request, processor=processor, tokenizer=tokenizer)


def image_processor_of(request: Request) -> Any:
    """The part of a processor that takes images."""
    return getattr(request.processor, "image_processor", request.processor)


def tokenizer_of(request: Request) -> Any:
    return request.tokenizer or request.processor.tokenizer


def embedding_of(answer: Any) -> Embedding:
    """The joint embedding, in the tensor of Transformers 4 or the output object of Transformers 5."""
    return answer if isinstance(answer, Tensor) else answer.pooler_output


_KNOWN = ("CLIPEncoderLayer", "SiglipEncoderLayer", "Siglip2EncoderLayer")


def one_row(
    block: Any,
    stream: Hidden,
    row: Int[Tensor, " batch"],
    attention_mask: Tensor | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> OneRow | None:
    """What leaves a block of CLIP's or SigLIP's in one row of each item, (batch, 1, width); None for other blocks, and
    where the block is given what is not known here.
    """
    if (
        type(block).__name__ not in _KNOWN
        or replace_forward(block)
        or any(value is not None for value in others.values())
    ):
        return None
    attention = block.self_attn
    if attention.config._attn_implementation not in ("sdpa", "eager"):
        return None
    own, normed = picked(stream, row), block.layer_norm1(stream)
    shape = (len(stream), -1, attention.num_heads, attention.head_dim)
    query = attention.q_proj(picked(normed, row)).view(shape).transpose(1, 2)
    key, value = (project(normed).view(shape).transpose(1, 2) for project in (attention.k_proj, attention.v_proj))
    seen = seen_from(row, attention_mask, attention.is_causal if is_causal is None else is_causal, stream)
    mixed = F.scaled_dot_product_attention(query, key, value, seen, scale=attention.scale)
    own = own + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return own + block.mlp(block.layer_norm2(own))


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


class HuggingFaceTextTower(TextTower):
    """What the text towers of CLIP and SigLIP have in common; ``full`` where captions are always of full length."""

    root: Any
    full: ClassVar[bool] = False

    def __init__(self, root: Any, request: Request) -> None:
        super().__init__()
        self.root = root
        self.model, self.config = root.text_model, root.config.text_config
        self.tokenizer = tokenizer_of(request)

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.model.encoder.layers)

    @property
    def embedder(self) -> nn.Module:
        return self.model.embeddings.token_embedding

    @property
    def pad(self) -> tuple[int, str]:
        return self.tokenizer.pad_token_id, self.tokenizer.pad_token

    def tokens(self, caption: str) -> Tokens:
        return hugging_face.tokens(self.tokenizer, caption, self.config.max_position_embeddings, self.full)
