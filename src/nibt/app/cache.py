"""Results of the page, which are kept in memory for a while so that they can be downloaded."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nibt.registry import format_of
from nibt.report.html.view import Panel

FORMATS = {ending: format_of(f"nibt.{ending}") for ending in ("png", "json", "html")}
"""The formats of downloads by the endings of their files."""


def endings(panels: Sequence[Panel]) -> list[str]:
    """Return the endings of the files that can hold the results of panels."""
    kinds = {panel.answer.kind for panel in panels}
    return [ending for ending, file_format in FORMATS.items() if kinds <= {*file_format.holds}]


_MAX_LINKED = 16


class ResultCache:
    """Results under random tokens."""

    def __init__(self, lifetime: float, max_size: int = 32, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime, self._max_size, self._clock = lifetime, max_size, clock
        self._results: OrderedDict[str, tuple[float, Sequence[Panel]]] = OrderedDict()
        self._linked: OrderedDict[str, Sequence[Panel]] = OrderedDict()
        self._lock = threading.Lock()

    def store(self, panels: Sequence[Panel]) -> str:
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._remove_expired()
            while len(self._results) >= self._max_size:
                self._results.popitem(last=False)
            self._results[token] = self._clock(), panels
        return token

    def remember(self, query: str, panels: Sequence[Panel]) -> None:
        """Remember the result of a link, which is the same for all visitors; without its regions of words at first."""
        with self._lock:
            self._linked[query] = panels
            while len(self._linked) > _MAX_LINKED:
                self._linked.popitem(last=False)

    def recall(self, query: str) -> Sequence[Panel]:
        """Return the result of a link; empty if it is not remembered."""
        with self._lock:
            return self._linked.get(query, ())

    def export(self, token: str, ending: str) -> bytes | None:
        """Return a result as the content of a file, or None if the token or the format is unknown."""
        with self._lock:
            self._remove_expired()
            stored = self._results.get(token)
        if stored is None or ending not in endings(stored[1]):
            return None
        results: list[Any] = list(stored[1])
        if ending == "json":  # which has the word-region tables as results of their own
            results = [result for panel in stored[1] for result in (panel.answer, panel.table) if result is not None]
        return FORMATS[ending].encoded(results, Path(f"nibt.{ending}"))

    def _remove_expired(self) -> None:
        oldest = self._clock() - self._lifetime
        while self._results and next(iter(self._results.values()))[0] < oldest:
            self._results.popitem(last=False)
