"""How a caller wants a model to be loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Request:
    """How the caller wants a model: ``resize`` and ``image_size`` of images, and processors for one in memory.

    ``notes`` and ``facts`` are added as a checkpoint is read: what the reader of every result should know of how that
    was done, and what is recorded of it beside the name and the weights.
    """

    dtype: torch.dtype = torch.float32
    resize: str | None = None
    image_size: int | None = None
    processor: Any = None
    tokenizer: Any = None
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
