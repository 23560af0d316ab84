"""Display of parts of evidence in a terminal."""

import sys

from rich.table import Table
from rich.text import Text

from nibt.cli.terminal import Terminal
from nibt.results.parts import Effect, Parts
from nibt.results.word_parts import WordParts

_NUMBERS = ("score", "images", "captions", "on objects", "on names", "needed", "sufficient", "stable")
_STYLES = {
    "shortcut": "bold red",
    "cannot tell": "bold yellow",
    "object": "bold blue",
    "not needed": "bold",
    "no verdict": "bold",
}
COLUMNS = (
    "needed: what images lose without the part's cells, as a share of what they lose without all, with its 95 % "
    "interval. sufficient: what others gain by them."
)
"""What two columns of the table mean."""
WORD_COLUMNS = (
    "needed: what captions lose if the part's words are those of another caption, as a share of what they lose if all "
    "are, with its 95 % interval. sufficient: what the others gain by them."
)
"""The same of the table of words."""


def show_parts(parts: Parts | WordParts) -> None:
    """Print a table of parts of images or of captions, and the notes."""
    console = Terminal(width=None if sys.stdout.isatty() else 120)
    console.print(Text(f"{parts.model['id']}, {parts.data.get('pairs')} pairs", style="bold"))
    console.print(table_of_parts(parts) if isinstance(parts, Parts) else _table_of_words(parts))
    console.print(COLUMNS if isinstance(parts, Parts) else WORD_COLUMNS, style="dim")
    for note in parts.notes:
        console.print(f"note: {note}", style="yellow")


def table_of_parts(parts: Parts) -> Table:
    """Return a table with a row for each part."""
    table = _table("", "verdict", "score", "images", "on objects", "needed", "sufficient", "place", "name", "stable")
    for part in parts.parts:
        table.add_row(
            str(part.number),
            Text(part.verdict, style=_STYLES[part.verdict]),
            f"{part.share:.0%}",
            str(part.images),
            _percent(part.on_objects),
            _with_interval(part.needed),
            _value(part.sufficient),
            part.where,
            part.name or "-",
            f"{part.stability:.0%}",
        )

    return table


def _table_of_words(parts: WordParts) -> Table:
    """Return a table with a row for each part of captions."""
    table = _table("", "verdict", "score", "captions", "on names", "needed", "sufficient", "stable", "words")
    for part in parts.parts:
        table.add_row(
            str(part.number),
            Text(part.verdict, style=_STYLES[part.verdict]),
            f"{part.share:.0%}",
            str(part.captions),
            _percent(part.on_names),
            _with_interval(part.needed),
            _value(part.sufficient),
            f"{part.stability:.0%}",
            Text(", ".join(word.word for word in part.words[:4])),
        )

    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _with_interval(effect: Effect | None) -> str:
    return f"{effect.value:.2f} [{effect.low:.2f}, {effect.high:.2f}]" if effect else "-"


def _value(effect: Effect | None) -> str:
    return f"{effect.value:.2f}" if effect else "-"
