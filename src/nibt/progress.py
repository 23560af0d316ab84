"""Progress of long work: one protocol for every function that reports it.

Functions that take several items accept ``on_progress`` and call it with a ``Progress`` after each of them. Loops
inside one item, such as the masks of a perturbation method, report to the listener of their context instead, since the
function that asks for the item cannot pass a callback through to them. Without a listener that costs nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Progress:
    """How far some work is: ``done`` of ``total`` items (None if the total is unknown), and what is worked on now."""

    done: int
    total: int | None = None
    stage: str = ""


OnProgress: TypeAlias = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """Ignore the progress: the default of functions that report it."""


_LISTENER: ContextVar[OnProgress] = ContextVar("listener", default=no_progress)


@contextmanager
def listening(listener: OnProgress) -> Iterator[None]:
    """Call ``listener`` with the progress of the loops inside; ``no_progress`` silences them."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def report(done: int, total: int) -> None:
    """Report that ``done`` of ``total`` steps of a loop are done."""
    _LISTENER.get()(Progress(done, total))


def tracked(items: Sequence[_Item]) -> Iterator[_Item]:
    """Yield the items, and report each when it is done; loops inside are not reported.

    >>> with listening(lambda progress: print(progress.done, "of", progress.total)):
    ...     total = sum(tracked([3, 4]))
    1 of 2
    2 of 2

    """
    listener = _LISTENER.get()
    with listening(no_progress):
        for done, item in enumerate(items, 1):
            yield item
            listener(Progress(done, len(items)))
