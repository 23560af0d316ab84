"""The limits of what one visitor of the page may use: sizes, time, and one computation, that of the latest question."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from nibt.errors import NibtError
from nibt.options import Keywords

MAX_VISITORS = 10_000


@dataclass(frozen=True)
class Limits:
    """The limits of a page, in bytes, pixels and seconds; the command sets four of them."""

    max_upload_bytes: int = 20_000_000
    max_pixels: int = 50_000_000  # checked before an image is decoded
    characters: int = 2_000
    captions: int = 12
    methods: int = 6
    timeout: float = 60.0
    max_queue: int = 20
    retention: float = 600.0

    def deadline(self, start: float, later_steps: int) -> float:
        """Return the time at which a step must end; a tenth of the time is reserved for each later step."""
        return start + self.timeout * (1 - min(later_steps, 9) / 10)


class TimeLimitExceeded(NibtError, TimeoutError):
    """A computation took longer than its limit."""


class Replaced(NibtError):
    """The visitor asked another question, or stopped this one."""


class Deadline(TorchDispatchMode):
    """A context manager that stops torch after a deadline in this thread, or when the result is no longer wanted.

    The first operation after the deadline raises, so that the context managers of a method take their hooks off.
    """

    def __init__(
        self, end: float, clock: Callable[[], float] = time.monotonic, is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__()
        self._end = end
        self._clock = clock
        self._is_wanted = is_wanted

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple = (), kwargs: Keywords | None = None
    ) -> Any:
        if not self._is_wanted():
            raise Replaced("another question replaced this one")
        if self._clock() > self._end:
            raise TimeLimitExceeded(
                "this takes longer than the time limit of this page: choose a faster method or fewer captions, or use "
                "nibt explain, which has no limit"
            )
        return func(*args, **(kwargs or {}))


class Questions:
    """The numbers of the latest questions, by visitor: a later one ends the computation of those before it."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._started: dict[str, int] = {}
        self._lock = threading.Lock()

    def ask(self, visitor: str, number: int) -> None:
        """Replace the earlier questions of a visitor."""
        with self._lock:
            self._latest[visitor] = max(number, self._latest.pop(visitor, number))
            while len(self._latest) > MAX_VISITORS:
                forgotten, _ = self._latest.popitem(last=False)
                self._started.pop(forgotten, None)

    def start(self, visitor: str, number: int) -> bool:
        """Start to answer a question; return False if it was replaced, or if its answer was already started."""
        with self._lock:
            if number < self._latest.get(visitor, number) or number <= self._started.get(visitor, number - 1):
                return False
            self._latest.setdefault(visitor, number)
            self._started[visitor] = number
            return True

    def is_latest(self, visitor: str, number: int) -> bool:
        """Whether no later question replaced this one."""
        with self._lock:
            return number >= self._latest.get(visitor, number)

    def leave(self, visitor: str) -> None:
        """End the computation for a visitor who closed the page."""
        with self._lock:
            if visitor in self._latest:
                self._latest[visitor] += 1
