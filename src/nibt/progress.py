"""Progress of long computations.

Functions that take several items accept ``on_progress``, and call it with a ``Progress`` after each item. Loops inside
an item, such as the masks of a perturbation method, cannot be passed a callback, and report to the listener of their
context instead.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from nibt.errors import BadOption

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Progress:
    """The progress of a computation.

    Attributes:
        done: The number of items that are done.
        total: The number of all items; None if it is unknown.
        stage: A description of the current item.
    """

    done: int
    total: int | None = None
    stage: str = ""


OnProgress: TypeAlias = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """Ignore the progress."""


def reporter(on_progress: OnProgress | None) -> OnProgress:
    """Return what is called with the progress; for None, what ignores it."""
    if on_progress is not None and not callable(on_progress):
        raise BadOption(f"on_progress must be a function that takes a Progress, or None (got {on_progress!r:.60})")
    return on_progress or no_progress


LISTENER: ContextVar[OnProgress] = ContextVar("listener", default=no_progress)


@contextmanager
def listening(listener: OnProgress) -> Iterator[None]:
    """Call ``listener`` with the progress of the loops inside the block; ``no_progress`` turns reports off."""
    token = LISTENER.set(listener)
    try:
        yield
    finally:
        LISTENER.reset(token)


def listener() -> OnProgress:
    """Return the listener of this context, for loops that end in another thread."""
    return LISTENER.get()


def report(done: int, total: int) -> None:
    """Report to the listener that ``done`` of ``total`` steps of a loop are done."""
    listener = LISTENER.get()
    if listener is not no_progress:
        listener(Progress(done, total))


def report_stage(stage: str) -> None:
    """Report to the listener that a phase begins, such as that a model is checked."""
    LISTENER.get()(Progress(0, 1, stage))


def tracked(items: Sequence[_Item]) -> Iterator[_Item]:
    """Yield the items, and report each one when it is done. Loops inside an item are not reported.

    >>> with listening(lambda progress: print(progress.done, "of", progress.total)):
    ...     total = sum(tracked([3, 4]))
    1 of 2
    2 of 2
    """
    listener = LISTENER.get()
    with listening(no_progress):
        for done, item in enumerate(items, 1):
            yield item
            listener(Progress(done, len(items)))
