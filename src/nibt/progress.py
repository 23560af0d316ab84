"""Progress inside long computations, reported to whoever listens in the same context; without a listener it costs
nothing.

A method that takes thousands of forward passes for one pair is asked only once, so its caller cannot count them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

Listener: TypeAlias = Callable[[int, int], None]
_Item = TypeVar("_Item")
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Inside, ``listener`` is called with the number of steps done and their total; None silences those inside."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def report(done: int, total: int) -> None:
    """Report that so many steps of a loop are done."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(done, total)


def tracked(items: Sequence[_Item]) -> Iterator[_Item]:
    """The items, each reported as it is done; loops inside are not reported.

    >>> with listening(lambda done, total: print(done, "of", total)):
    ...     total = sum(tracked([3, 4]))
    1 of 2
    2 of 2

    """
    outer = _LISTENER.get()
    with listening(None):
        for done, item in enumerate(items, 1):
            yield item
            if outer is not None:
                outer(done, len(items))
