"""The limits of what one visitor of the page may use, and the time limit of a computation."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from nibt.errors import BadInput, NibtError


@dataclass(frozen=True)
class Limits:
    """The limits of a page.

    Options of ``nibt serve`` set ``max_upload_bytes``, ``max_pixels``, ``timeout`` and ``max_queue``.

    Attributes:
        max_upload_bytes: The largest image file, in bytes.
        max_pixels: The largest image, in pixels. It is checked before the image is decoded.
        characters: The largest number of characters of all captions together.
        captions: The largest number of captions.
        methods: The largest number of methods.
        timeout: The longest time of one computation, in seconds.
        max_queue: The largest number of requests in the queue; further requests are rejected.
        retention: How long uploaded images and results are kept, in seconds.

    """

    max_upload_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    characters: int = 2_000
    captions: int = 12
    methods: int = 6
    timeout: float = 60.0
    max_queue: int = 20
    retention: float = 600.0

    def check_captions(self, captions: list[str]) -> None:
        """Check the number and the length of captions."""
        characters = sum(map(len, captions))
        if characters > self.characters:
            raise BadInput(
                f"the captions have {characters:,} characters, and this page takes {self.characters:,}: shorten them"
            )
        if len(captions) > self.captions:
            raise BadInput(
                f"there are {len(captions)} captions, and this page takes {self.captions} at once: leave out "
                f"{len(captions) - self.captions}"
            )

    def deadline(self, start: float, later_steps: int) -> float:
        """Return the time at which a step of a computation must end.

        A tenth of the time is reserved for each later step, so that one slow method leaves time for the others.
        """
        return start + self.timeout * (1 - min(later_steps, 9) / 10)


class TimeLimitExceeded(NibtError, TimeoutError):
    """A computation took longer than its limit."""


class Replaced(NibtError):
    """The visitor asked another question, or stopped this one."""


class Deadline(TorchDispatchMode):
    """A context manager that stops a computation after a deadline, or when its result is no longer wanted.

    Every operation of torch checks the clock, and the first one after the deadline raises. The error passes through the
    context managers of the method, which remove their hooks from the model. The deadline applies to the thread that
    enters the context, and changes no results.
    """

    def __init__(
        self, end: float, clock: Callable[[], float] = time.monotonic, is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__()
        self._end, self._clock, self._is_wanted = end, clock, is_wanted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._is_wanted():
            raise Replaced("another question replaced this one")
        if self._clock() > self._end:
            raise TimeLimitExceeded(
                "this takes longer than the time limit of this page: choose a faster method or fewer captions, or use "
                "nibt explain, which has no limit"
            )
        return func(*args, **(kwargs or {}))
