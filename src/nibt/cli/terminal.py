"""The one place that prints: texts, the progress of a command, as a bar or as lines, and interruptions.

No text controls the terminal, and no encoding stops a command.
"""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import rich.progress
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, RenderableColumn, SpinnerColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from nibt.io import one_line
from nibt.progress import OnProgress, Progress, listening, no_progress


def safe_streams() -> None:
    """Let standard output and error write escapes for what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def say(text: str, err: bool = False) -> None:
    """Print a text of one line or several."""
    print("\n".join(map(one_line, text.split("\n"))), file=sys.stderr if err else sys.stdout, flush=True)


def complain(message: str) -> None:
    """Print a message of nibt to standard error, on one line."""
    say(f"nibt: {one_line(message)}", err=True)


def print_json(data: object) -> None:
    """Print data as JSON, which stays JSON in every encoding."""
    from nibt.results.base import as_text

    sys.stdout.write(as_text(data, sys.stdout.encoding or "utf-8"))


class Terminal(Console):
    """A console of rich that takes texts as they are, without markup or emoji codes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text, made visible before its width is measured."""
        return super().render_str("\n".join(map(one_line, text.split("\n"))), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the parts of what is printed, with control characters made visible."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment("\n".join(map(one_line, segment.text.split("\n"))), segment.style)


errors = Terminal(stderr=True)
_EVERY = 10.0  # seconds between lines
_INNER = 2  # the least number of steps of an inner loop that is shown
_MOST = 0.99  # the largest share of an item that is not done


@dataclass
class Status:
    """The state of a progress display."""

    name: str
    total: int | None
    done: int = 0
    stage: str = ""
    detail: str = ""
    share: float = 0.0
    started: float = field(default_factory=time.monotonic)
    on_change: Callable[["Status"], None] = lambda status: None

    def update(self, progress: Progress) -> None:
        """Update the number of finished items."""
        self.done = progress.done
        self.stage = progress.stage
        self.detail = ""
        self.share = 0.0
        self.total = self.total if progress.total is None else progress.total
        self.on_change(self)

    def update_inside(self, progress: Progress) -> None:
        """Update the progress inside the current item, such as the forward passes of a pair, or a download."""
        done = progress.done
        total = progress.total or 0
        if progress.stage:  # a phase of loading or a download, which come before the loops of an item
            self.detail = "" if done == total else progress.stage
            self.on_change(self)
            return

        self.detail = f"step {done:,} of {total:,}" if total >= _INNER and done < total else ""
        self.share = max(self.share, min(done / max(total, 1), _MOST))  # the longest loop of an item comes first
        self.on_change(self)

    def left(self) -> float | None:
        """Estimate the seconds that are left; None if nothing tells, as after the longest loop of the last item."""
        # several first items may be a batch, whose share is not that of one item
        finished = self.done + (self.share if self.total == 1 or self.done else 0)
        if not self.total or not 0 < finished < self.total:
            return None

        remaining = self.total - finished
        if remaining <= 1 - _MOST + 1e-9:  # only the shorter loops of the last item are left, whose time is not known
            return None
        return (time.monotonic() - self.started) / finished * remaining

    def line(self) -> str:
        """Return what is shown: what is done of what, the phase, the time, and an estimate of the time that is left.

        >>> Status("explaining", 8, 2, started=time.monotonic() - 30).line()
        'explaining: 2 of 8, 0:30 elapsed, about 1:30 left'
        >>> Status("loading lite", None, detail="checking the model").line()
        'loading lite: checking the model, 0:00 elapsed'
        """
        count = f"{self.done:,}" if self.done else ""
        parts = [f"{self.done:,} of {self.total:,}" if self.total else count, self.stage, self.detail]
        parts.append(f"{clock(time.monotonic() - self.started)} elapsed")
        left = self.left()
        parts.append("" if left is None else f"about {clock(left)} left")
        return f"{self.name}: {', '.join(filter(None, parts))}"

    def __rich__(self) -> Text:
        """Return the line beside a bar, with the time of each refresh."""
        return Text(self.line())


@contextmanager
def show_progress(name: str, quiet: bool, total: int | None = None) -> Iterator[OnProgress]:
    """Show the progress of a computation, and of its inner loops, on standard error."""
    if quiet:
        yield no_progress
        return

    status = Status(name, total)
    if not errors.is_terminal:
        with _lines(status), listening(status.update_inside):
            yield status.update
        return

    line = RenderableColumn(status, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (SpinnerColumn(), BarColumn(10), line)
    bar = rich.progress.Progress(*columns, console=errors, transient=True)
    with bar, listening(status.update_inside):
        task = bar.add_task(status.name, total=status.total)
        status.on_change = lambda now: bar.update(task, completed=now.done + now.share, total=now.total)
        yield status.update


_CALM = 3.0  # seconds after an interruption in which others are ignored, since files are being put in order


@dataclass
class _Interruption:
    """The last signal that stopped the process, of which it has one handler."""

    code: int = 0
    time: float = -math.inf

    def handle(self, number: int, frame: object) -> None:
        """Stop at a signal, and not again while the process puts its files in order."""
        if time.monotonic() - self.time < _CALM:
            return
        self.code = 128 + number
        self.time = time.monotonic()
        raise KeyboardInterrupt


_interruption = _Interruption()


@contextmanager
def interruptible(kept: str | Callable[[], str]) -> Iterator[None]:
    """Report an interruption by Ctrl-C or SIGTERM in one line, and exit with 130 or 143."""
    # only the main thread can set handlers of signals
    is_main = threading.current_thread() is threading.main_thread()
    # a command in the background ignores Ctrl-C
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _interruption.handle) for number in signals if is_main}

    # a command begins, and is not the inner one of another command
    if any(handler != _interruption.handle for handler in before.values()):
        _interruption.time = -math.inf

    try:
        yield
    except KeyboardInterrupt as interrupt:
        complain(f"interrupted; {kept if isinstance(kept, str) else kept()}")
        raise typer.Exit(_interruption.code or 130) from interrupt
    finally:
        if _interruption.time == -math.inf:  # else the process ends, and must not be stopped twice
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _lines(status: Status) -> Iterator[None]:
    """Print a line every ten seconds, from a thread, since a single step may take longer."""
    ended = threading.Event()

    def print_lines() -> None:
        while not ended.wait(_EVERY):
            complain(status.line())

    thread = threading.Thread(target=print_lines, name="nibt-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def clock(seconds: float) -> str:
    """Format seconds as minutes and seconds, or as hours, minutes and seconds.

    >>> clock(75.0), clock(3700.0)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
