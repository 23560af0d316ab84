"""What families of Hugging Face Transformers share: loading of checkpoints and processors, and the towers."""

from dataclasses import replace
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn
from typing_extensions import override

from nibt.data.units import Grid, Units
from nibt.errors import CannotLoad
from nibt.models._last_row import has_hooks, row_mask, select_row
from nibt.models._request import Request
from nibt.models.base import ImageTower, Inputs, TextTower
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import Tokens
from nibt.types import Embedding, Hidden, OneRow


def load_pretrained(kind: Any, source: str, request: Request) -> tuple[nn.Module, Request]:
    """Load a checkpoint and its processor.

    Weights are read from safetensors, or from a pickled state dict with torch's weights-only reader. Code in a
    checkpoint is never run.

    Raises:
        CannotLoad: The file lacks weights, which would be random, or there is no processor.

    """
    request = with_processor(source, request)  # first, since the weights take long
    module, info = kind.from_pretrained(
        source, dtype=request.dtype, trust_remote_code=False, weights_only=True, output_loading_info=True
    )
    if info["missing_keys"]:
        raise CannotLoad(
            f"{source!r} lacks {len(info['missing_keys'])} weights, such as {sorted(info['missing_keys'])[0]!r}, which "
            "would be random: save the whole model"
        )
    return module, request


def with_processor(source: str, request: Request) -> Request:
    """Return the request with the image processor and the tokenizer of a checkpoint.

    Raises:
        CannotLoad: The checkpoint has no image processor or tokenizer that Transformers can load.

    """
    from transformers import AutoImageProcessor, AutoTokenizer

    try:
        processor = request.processor or AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        tokenizer = request.tokenizer or getattr(request.processor, "tokenizer", None)
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # what Transformers creates without a file
            raise ValueError("the tokenizer has no vocabulary")
    except (OSError, TypeError, ValueError) as error:  # a TypeError comes from a file name that is None
        raise CannotLoad(
            f"{source!r} has no image processor or no tokenizer that Transformers can load ({_line(error)}): save the "
            "processor with the model, or pass processor=..."
        ) from error
    return replace(request, processor=processor, tokenizer=tokenizer)


def whole_processor(source: str, request: Request) -> Any:
    """Return the processor of a checkpoint whose model reads images and texts together.

    Raises:
        CannotLoad: The checkpoint has no such processor that Transformers can load.

    """
    if request.processor is not None:
        return request.processor
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        if not hasattr(processor, "tokenizer"):
            raise ValueError("the processor has no tokenizer")
    except (OSError, TypeError, ValueError) as error:
        raise CannotLoad(
            f"{source!r} has no processor that Transformers can load ({_line(error)}): save the processor with the "
            "model, or pass processor=..."
        ) from error
    return processor


def get_image_processor(request: Request) -> Any:
    """Return the part of a processor that takes images."""
    return getattr(request.processor, "image_processor", request.processor)


def get_tokenizer(request: Request) -> Any:
    """Return the tokenizer of a request or its processor."""
    return request.tokenizer or request.processor.tokenizer


def get_embedding(output: Any) -> Embedding:
    """Return the joint embedding from the tensor of Transformers 4 or the output object of Transformers 5."""
    return output if isinstance(output, Tensor) else output.pooler_output


_KNOWN = ("CLIPEncoderLayer", "SiglipEncoderLayer", "Siglip2EncoderLayer")


def one_row(
    block: Any,
    stream: Hidden,
    row: Int[Tensor, " batch"],
    attention_mask: Tensor | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> OneRow | None:
    """Compute one row of each item in the output of a block of CLIP or SigLIP, of shape (batch, 1, width).

    Returns:
        The rows, or None for other blocks and for unknown arguments.

    """
    if type(block).__name__ not in _KNOWN or has_hooks(block) or any(value is not None for value in others.values()):
        return None
    attention = block.self_attn
    if attention.config._attn_implementation not in ("sdpa", "eager"):
        return None
    residual, normed = select_row(stream, row), block.layer_norm1(stream)
    shape = (len(stream), -1, attention.num_heads, attention.head_dim)
    query = attention.q_proj(select_row(normed, row)).view(shape).transpose(1, 2)
    key, value = (project(normed).view(shape).transpose(1, 2) for project in (attention.k_proj, attention.v_proj))
    mask = row_mask(row, attention_mask, attention.is_causal if is_causal is None else is_causal, stream)
    mixed = F.scaled_dot_product_attention(query, key, value, mask, scale=attention.scale)
    residual = residual + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return residual + block.mlp(block.layer_norm2(residual))


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


class HuggingFaceImageTower(ImageTower):
    """Base class of the image towers of CLIP and SigLIP with a fixed patch size.

    Attributes:
        prefix: The number of tokens before the patches, such as the class token.

    """

    root: Any
    prefix: ClassVar[int] = 0

    def __init__(self, root: Any, request: Request) -> None:
        super().__init__()
        self.root = root
        self.vision, config = root.vision_model, root.config.vision_config
        self.patch, self.size = config.patch_size, config.image_size
        self.preparation = hugging_face.image_preparation(
            get_image_processor(request), request.resize, request.image_size, self.size, self.patch
        )

    @property
    @override
    def blocks(self) -> list[nn.Module]:
        return list(self.vision.encoder.layers)

    @override
    def run(self, inputs: Inputs) -> Embedding:
        other_size = inputs.values.shape[-2:] != (self.size, self.size)
        return get_embedding(self.root.get_image_features(inputs.values, interpolate_pos_encoding=other_size))

    @override
    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        height, width = inputs.values.shape[-2:]
        return Grid(height // self.patch, width // self.patch, prefix=self.prefix)


class HuggingFaceTextTower(TextTower):
    """Base class of the text towers of CLIP and SigLIP; ``full`` if captions are padded to the full length."""

    root: Any
    full: ClassVar[bool] = False

    def __init__(self, root: Any, request: Request) -> None:
        super().__init__()
        self.root = root
        self.model, self.config = root.text_model, root.config.text_config
        self.tokenizer = get_tokenizer(request)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks, in order."""
        return list(self.model.encoder.layers)

    @property
    def embedder(self) -> nn.Module:
        """The table of word embeddings."""
        return self.model.embeddings.token_embedding

    @property
    def pad(self) -> tuple[int, str]:
        """The id and the text of the padding token."""
        return self.tokenizer.pad_token_id, self.tokenizer.pad_token

    def tokens(self, caption: str) -> Tokens:
        """Tokenize one caption."""
        return hugging_face.tokens(self.tokenizer, caption, self.config.max_position_embeddings, self.full)
