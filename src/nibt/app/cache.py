"""Results of the page, which are kept in memory for a while so that they can be downloaded."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from io import BytesIO

from nibt.report.html.page import page
from nibt.report.html.view import Panel
from nibt.report.image.explanation import draw
from nibt.report.image.layout import MARGIN, stacked
from nibt.results.explanation import Comparison, Explanation
from nibt.results.saving import as_bytes

FORMATS = {"png": "image/png", "json": "application/json", "html": "text/html; charset=utf-8"}
"""The formats of downloads with their media types."""


_MAX_LINKED = 16


class ResultCache:
    """Results under random tokens."""

    def __init__(self, lifetime: float, max_size: int = 32, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime, self._max_size, self._clock = lifetime, max_size, clock
        self._results: OrderedDict[str, tuple[float, Sequence[Panel]]] = OrderedDict()
        self._linked: OrderedDict[str, Sequence[Panel]] = OrderedDict()
        self._lock = threading.Lock()

    def store(self, panels: Sequence[Panel]) -> str:
        """Store a result and return its token."""
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

    def export(self, token: str, kind: str) -> bytes | None:
        """Return a result as the content of a file, or None if the token or the format is unknown."""
        with self._lock:
            self._remove_expired()
            stored = self._results.get(token)
        return None if stored is None or kind not in FORMATS else _EXPORTERS[kind](stored[1])

    def _remove_expired(self) -> None:
        oldest = self._clock() - self._lifetime
        while self._results and next(iter(self._results.values()))[0] < oldest:
            self._results.popitem(last=False)


def _png(panels: Sequence[Panel]) -> bytes:
    """Return the images of all results, stacked, each as ``nibt explain`` draws it."""
    images = [draw(panel.answer) for panel in panels if isinstance(panel.answer, Explanation | Comparison)]
    width = max(image.width for image in images)
    buffer = BytesIO()
    (images[0] if len(images) == 1 else stacked(images, width + MARGIN)).save(buffer, "PNG")
    return buffer.getvalue()


def _json(panels: Sequence[Panel]) -> bytes:
    """Return the JSON of ``nibt explain --json``, with the word-region tables."""
    records = [result.to_json() for panel in panels for result in (panel.answer, panel.table) if result is not None]
    return as_bytes(records[0] if len(records) == 1 else records)


def _html(panels: Sequence[Panel]) -> bytes:
    return page(panels).encode()


_EXPORTERS = {"png": _png, "json": _json, "html": _html}
