"""What one visitor may ask of the page, and the end of a computation that takes too long."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from nibt.errors import BadInput, NibtError


@dataclass(frozen=True)
class Limits:
    """The limits of a page; all of them are options of ``nibt serve`` that its owner may move."""

    upload: int = 20_000_000
    """Bytes of an image's file."""
    pixels: int = 50_000_000
    """Pixels of an image; more are refused before anything is decoded."""
    characters: int = 2_000
    """Characters of all captions together."""
    captions: int = 12
    methods: int = 6
    seconds: float = 60.0
    """Of one computation."""
    waiting: int = 20
    """Visitors who wait for their turn; further ones are rejected."""
    kept: float = 600.0
    """Seconds after which an uploaded image and an answer are forgotten."""

    def check_captions(self, captions: list[str]) -> None:
        """Refuse more text than is computed at once.

        Raises:
            BadInput: Too many captions, or too many characters.

        """
        if sum(map(len, captions)) > self.characters:
            raise BadInput(
                f"the captions have {sum(map(len, captions)):,} characters, and this page takes "
                f"{self.characters:,}: shorten them"
            )
        if len(captions) > self.captions:
            raise BadInput(
                f"there are {len(captions)} captions, and this page takes {self.captions} at once: leave some out"
            )

    def deadline(self, began: float, later: int) -> float:
        """Return the time at which a step of a computation must end.

        A tenth of the time is reserved for each later step, so that one slow method leaves time for the others.

        Args:
            began: The time at which the computation began.
            later: The number of later steps.

        """
        return began + self.seconds * (1 - min(later, 9) / 10)


class TimeLimitExceeded(NibtError, TimeoutError):
    """A computation took longer than it may."""


class Deadline(TorchDispatchMode):
    """Within ``with``, every step of torch looks at the clock, and the first that is late ends the computation.

    ``end`` is the time on that ``clock`` at which it is late. It raises from within the model's own forward pass, so
    every ``with`` of the methods is left as it should be and nothing stays on the model. It holds for the thread that
    enters it, and changes no number.

    Raises:
        TimeLimitExceeded: From within the block, once the time is up.

    """

    def __init__(self, end: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._end, self._clock = end, clock

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._clock() > self._end:
            raise TimeLimitExceeded(
                "this takes longer than this page gives to one visitor: choose a method that costs less, or "
                "fewer captions; nibt explain has no limit"
            )
        return func(*args, **(kwargs or {}))
