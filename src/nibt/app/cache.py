"""The last answers of the page, in memory alone, so that a link can give them as an image, JSON or a page."""

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
from nibt.results.saving import as_text

FORMATS = {"png": "image/png", "json": "application/json", "html": "text/html; charset=utf-8"}


class ResultCache:
    """Answers under tokens that nobody can guess; the oldest make room, and none stays longer than ``kept`` seconds."""

    def __init__(self, kept: float, most: int = 32, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept, self._most, self._clock = kept, most, clock
        self._answers: OrderedDict[str, tuple[float, Sequence[Panel]]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, panels: Sequence[Panel]) -> str:
        """Remember an answer; its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._forget()
            while len(self._answers) >= self._most:
                self._answers.popitem(last=False)
            self._answers[token] = self._clock(), panels
        return token

    def file(self, token: str, kind: str) -> bytes | None:
        """An answer as the contents of a file of that kind; None where there is none, or no more."""
        with self._lock:
            self._forget()
            stored = self._answers.get(token)
        return None if stored is None or kind not in FORMATS else _WRITTEN[kind](stored[1])

    def _forget(self) -> None:
        until = self._clock() - self._kept
        while self._answers and next(iter(self._answers.values()))[0] < until:
            self._answers.popitem(last=False)


def _png(panels: Sequence[Panel]) -> bytes:
    """All answers below each other, as nibt explain draws each."""
    drawn = [draw(panel.answer) for panel in panels if isinstance(panel.answer, Explanation | Comparison)]
    width = max(one.width for one in drawn)
    buffer = BytesIO()
    (drawn[0] if len(drawn) == 1 else stacked(drawn, width + MARGIN)).save(buffer, "PNG")
    return buffer.getvalue()


def _json(panels: Sequence[Panel]) -> bytes:
    """What nibt explain --json writes, and the tables behind."""
    records = [one.to_json() for panel in panels for one in (panel.answer, panel.table) if one is not None]
    return as_text(records[0] if len(records) == 1 else records).encode()


def _html(panels: Sequence[Panel]) -> bytes:
    return page(panels).encode()


_WRITTEN = {"png": _png, "json": _json, "html": _html}
