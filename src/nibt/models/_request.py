"""The options with which a model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

EMBEDDING = ("pooling", "instruction", "image_prompt", "text_prompt", "positions")
"""What says how a vision-language model embeds a prompt."""


@dataclass(frozen=True)
class Request:
    """The options with which a model is loaded, and what loading adds to them.

    Attributes:
        dtype: The dtype of the model.
        resize: How images are resized.
        image_size: The input size of images.
        processor: The processor.
        tokenizer: The tokenizer.
        notes: Warnings about the checkpoint, for every result.
        embedding: How a vision-language model embeds a prompt: values of ``EMBEDDING``.
        facts: What records of the model contain besides its name and weights.
        after: What follows the encoders in a folder of sentence-transformers.

    """

    dtype: torch.dtype = torch.float32
    resize: str | None = None
    image_size: int | None = None
    processor: Any = None
    tokenizer: Any = None
    notes: tuple[str, ...] = ()
    embedding: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    after: nn.Module | None = None

    @property
    def image_processor(self) -> Any:
        """The part of the processor that takes images."""
        return getattr(self.processor, "image_processor", self.processor)

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer, or that of the processor; None if there is none."""
        return self.tokenizer or getattr(self.processor, "tokenizer", None)
