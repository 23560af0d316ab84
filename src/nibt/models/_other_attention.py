"""Replay of a block of an unmodified model with another attention, such as that of its values with each other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nibt.models._attention import AttentionRecord, AttentionRecorder
from nibt.types import Hidden

Attend = Callable[[AttentionRecord], Tensor]
"""Computes the output of an attention, (batch, head, query, width), in place of the recorded one."""

SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__}


class OtherAttention(NamedTuple):
    """What another attention adds to the hidden state of a block, and the state that then leaves the block."""

    added: Hidden
    stream: Hidden


class AttentionReplacer(AttentionRecorder):
    """Context that replaces the output of each attention in this thread, and notes what it adds to a hidden state.

    Every block adds the output of its attention, after projections and scales, to the hidden state that enters it. This
    is the first sum after the attention in which that state is an operand; the other operand is noted.
    """

    def __init__(self, attend: Attend, stream: Tensor) -> None:
        super().__init__()
        self._attend_instead = attend
        self._stream = stream
        self.added: Tensor | None = None

    def attended(self, record: AttentionRecord) -> Tensor:
        super().attended(record)
        return self._attend_instead(record)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Handle a torch function; torch disables this mode during the call."""
        if self.added is None and self._records and func in SUMS and any(term is self._stream for term in args[:2]):
            self.added = args[1] if args[0] is self._stream else args[0]
        return super().__torch_function__(func, types, args, kwargs)
