"""The options with which a model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

EMBEDDING = ("pooling", "instruction", "image_prompt", "text_prompt", "positions")
"""What says how a vision-language model embeds a prompt."""


@dataclass(frozen=True)
class Request:
    """The options with which a model is loaded, and what loading adds to them."""

    dtype: torch.dtype = torch.float32
    resize: str | None = None
    image_size: int | None = None
    processor: Any = None
    tokenizer: Any = None
    notes: tuple[str, ...] = ()  # for every result
    embedding: Mapping[str, Any] = field(default_factory=dict)  # values of ``EMBEDDING``
    facts: Mapping[str, Any] = field(default_factory=dict)  # for records, besides the name and the weights
    folder: Path | None = None  # of a local or embedded model
    defaults: Mapping[str, Any] = field(default_factory=dict)  # recommended values of options
    after: nn.Module | None = None  # what follows the encoders in a folder of sentence-transformers

    @property
    def image_processor(self) -> Any:
        """The part of the processor that takes images."""
        return getattr(self.processor, "image_processor", self.processor)

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer, or that of the processor; None if there is none."""
        return self.tokenizer or getattr(self.processor, "tokenizer", None)
