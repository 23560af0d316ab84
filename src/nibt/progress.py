"""Progress of long computations.

Functions that take several items accept ``on_progress``, and call it with a ``Progress`` after each item. Loops inside
an item, such as the masks of a perturbation method, cannot be passed a callback, and report to the listener of their
context instead.

In a notebook, a call without ``on_progress`` shows a bar of tqdm if it takes longer than a second.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from weakref import ReferenceType, ref

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
    """Return what is called with the progress; for None, what shows it in a notebook, and ignores it elsewhere."""
    if on_progress is not None and not callable(on_progress):
        raise BadOption(f"on_progress must be a function that takes a Progress, or None (got {on_progress!r:.60})")

    cell = _notebook_cell()
    if cell is None:
        return on_progress or no_progress
    return _in_notebook(on_progress, cell)


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


# Notebooks

_DELAY = 1.0  # seconds before a bar is shown
_MOST = 0.99  # the largest share of an item that is not done


def _notebook_cell() -> int | None:
    """Return the number of the cell of a notebook that runs; None elsewhere, also in the IPython of a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    return shell.execution_count


@dataclass(eq=False)
class _Call:
    """The progress of the outermost call in a cell, whose reports go to its own ``on_progress``."""

    cell: int
    receive: OnProgress = no_progress
    is_finished: bool = False

    def __call__(self, progress: Progress) -> None:
        self.is_finished = progress.done == progress.total
        self.receive(progress)


class _Bar(_Call):
    """The progress of the outermost call in a cell, as a bar that disappears with it."""

    def __init__(self, cell: int) -> None:
        super().__init__(cell)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without the package of widgets, the bar is text
            from tqdm.auto import tqdm

        form = "nibt: {percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
        self._bar = tqdm(leave=False, delay=_DELAY, miniters=0, bar_format=form)

    def __call__(self, progress: Progress) -> None:
        self.is_finished = progress.done == progress.total
        self._bar.total = progress.total or self._bar.total
        count = f"{progress.done:,}" if progress.total is None else f"{progress.done:,} of {progress.total:,}"
        self._show(progress.done, ", ".join(filter(None, [count, progress.stage])))

    def inside(self, progress: Progress) -> None:
        """Show the progress inside the current item, such as the forward passes of a pair."""
        if progress.stage:
            self._show(self._bar.n, progress.stage)
        elif progress.total:
            share = min(progress.done / progress.total, _MOST)
            finished = int(self._bar.n)
            self._bar.total = self._bar.total or 1

            # a second loop of the same item begins at 0, and a bar that moves back misleads
            self._show(max(self._bar.n, finished + share), f"step {progress.done:,} of {progress.total:,}")

    def _show(self, done: float, text: str) -> None:
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def __del__(self) -> None:
        bar: Any = getattr(self, "_bar", None)
        if bar is not None:
            bar.close()


_OUTERMOST: ContextVar["ReferenceType[_Call] | None"] = ContextVar("outermost", default=None)


def _in_notebook(on_progress: OnProgress | None, cell: int) -> OnProgress:
    """Return what is called with the progress in a cell: calls inside a call show nothing of their own.

    A call ends when its function no longer holds what this returns. After an error, Python may hold it longer, so that
    it counts only in its cell.
    """
    before = _OUTERMOST.get()
    outer = None if before is None else before()
    if outer is not None and outer.cell == cell and not outer.is_finished:
        return on_progress or no_progress

    # weak references, so that the call alone holds the bar, which closes when the function returns or raises
    if on_progress is not None:
        call = _Call(cell, on_progress)
    else:
        call = _Bar(cell)
        LISTENER.set(_listener_of(ref(call)))
    _OUTERMOST.set(ref(call))
    return call


def _listener_of(bar: "ReferenceType[_Bar]") -> OnProgress:
    """Return a listener that shows what loops report on a bar, as long as there is one."""

    def listen(progress: Progress) -> None:
        shown_bar = bar()
        if shown_bar is not None:
            shown_bar.inside(progress)

    return listen
