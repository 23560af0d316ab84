"""The one place that prints: no text controls the terminal, and no encoding stops a command."""

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from nibt.io import one_line


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


def print_json(data: Any) -> None:
    """Print data as JSON, which stays JSON in every encoding."""
    from nibt.results.base import as_text

    text = as_text(data)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = as_text(data, ascii_only=True)
    sys.stdout.write(text)


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
