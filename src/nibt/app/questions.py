"""The latest question of each visitor: it replaces an earlier one, whose computation ends at once."""

import threading
from collections import OrderedDict

MAX_VISITORS = 10_000


class Questions:
    """The numbers of the latest questions, by visitor. Those of a visitor increase."""

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
