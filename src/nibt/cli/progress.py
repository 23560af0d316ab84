"""What a person sees while the command works: a bar with the number done, the total and the time left; where standard
error is no terminal, a line every ten seconds; and one line when the work is interrupted.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nibt.progress import listening

errors = Console(stderr=True, highlight=False)
_EVERY = 10.0  # seconds between lines where there is no terminal
_INNER = 2  # steps from which a loop inside is worth a bar


@dataclass
class Status:
    """How far the work is; what is done is a number of items, of ``total`` where that is known."""

    what: str
    total: int | None
    done: int = 0
    detail: str = ""
    part: float = 0.0
    started: float = field(default_factory=time.monotonic)
    on_change: Callable[["Status"], None] = lambda status: None

    def advance(self, count: int = 1) -> None:
        """Count finished items."""
        self.update(self.done + count)

    def update(self, done: int, total: int | None = None, detail: str = "") -> None:
        """Say how far the work is."""
        self.done, self.total, self.detail, self.part = done, self.total if total is None else total, detail, 0.0
        self.on_change(self)

    def inside(self, done: int, total: int) -> None:
        """Say how far a loop inside the current item is: in forward passes of a pair, or in pairs that are read."""
        self.detail = f"step {done:,} of {total:,}" if total >= _INNER and done < total else ""
        self.part = max(self.part, min(done / total, 0.99))  # an item has several loops, the longest of them first
        self.on_change(self)

    def line(self) -> str:
        """What is said where there is no terminal.

        >>> Status("explaining", 8, 2, started=time.monotonic() - 30).line()
        'explaining: 2 of 8, 0:30 elapsed, about 1:30 left'

        """
        elapsed = time.monotonic() - self.started
        parts = [f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"]
        parts += [self.detail] if self.detail else []
        parts.append(f"{_clock(elapsed)} elapsed")
        finished = self.done + self.part
        if self.total and 0 < finished < self.total:
            parts.append(f"about {_clock(elapsed / finished * (self.total - finished))} left")
        return f"{self.what}: {', '.join(parts)}"


@contextmanager
def watched(what: str, total: int | None, quiet: bool, window: float = 30.0) -> Iterator[Status]:
    """The status of some work, shown on standard error; loops inside are shown, too.

    ``total`` is None where nobody knows it. The time left follows from the last ``window`` seconds: a longer one where
    items differ much in what they take.
    """
    status = Status(what, total)
    if quiet:
        yield status
        return
    with _bar(status, window) if errors.is_terminal else _lines(status), listening(status.inside):
        yield status


@contextmanager
def progress(count: int, what: str, quiet: bool, window: float = 30.0) -> Iterator[Callable[[], None]]:
    """The same, for a caller that reports each item as it is done."""
    with watched(what, count, quiet, window) as status:
        yield status.advance


@contextmanager
def steps(what: str, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """The same, for work that reports the name of its next step, how many are done, and their total."""
    with watched(what, None, quiet, 3600.0) as status:
        yield lambda step, done, total: status.update(done, total, step)


@contextmanager
def interruptible(kept: str | Callable[[], str]) -> Iterator[None]:
    """Where Ctrl-C or SIGTERM ends the work: say in one line what is ``kept`` and how to go on, and leave with 130 or
    143.
    """
    code = 130

    def terminate(number: int, frame: object) -> None:
        nonlocal code
        code = 143
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if main else None
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print(f"nibt: interrupted; {kept if isinstance(kept, str) else kept()}", file=sys.stderr)
        raise typer.Exit(code) from interrupt
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _bar(status: Status, window: float) -> Iterator[None]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    shown = Progress(*columns, console=errors, transient=True, speed_estimate_period=window)
    with shown as bar:
        task = bar.add_task(status.what, total=status.total, detail="")
        status.on_change = lambda now: bar.update(
            task, completed=now.done + now.part, total=now.total, detail=now.detail
        )
        yield


@contextmanager
def _lines(status: Status) -> Iterator[None]:
    """A line every ten seconds, from a thread: a single step may take longer than that."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(_EVERY):
            print(f"nibt: {status.line()}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, name="nibt-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds.

    >>> _clock(75.0), _clock(3700.0)
    ('1:15', '1:01:40')

    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
