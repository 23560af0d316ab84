"""Display of parts of evidence in a terminal."""

import sys

from rich.table import Table
from rich.text import Text

from nibt.cli.terminal import Terminal
from nibt.results.parts import Parts
from nibt.results.word_parts import WordParts

_NUMBERS = ("score", "images", "captions", "on objects", "on names", "needed", "sufficient", "stable")
_STYLES = {"shortcut": "bold red", "object": "bold blue", "not needed": "bold", "no verdict": "bold"}
COLUMNS = (
    "needed: what images lose without the part's cells, as a share of what they lose without all. sufficient: what "
    "others gain by them."
)
"""What two columns of the table mean."""
WORD_COLUMNS = (
    "needed: what captions lose if the part's words are those of another caption, as a share of what they lose if all "
    "are. sufficient: what the others gain by them."
)
"""The same of the table of words."""


def show_parts(parts: Parts) -> None:
    """Print a table of parts, and the notes."""
    console = Terminal(width=None if sys.stdout.isatty() else 120)
    console.print(Text(f"{parts.model['id']}, {parts.data.get('pairs')} pairs", style="bold"))
    console.print(table_of_parts(parts))
    console.print(COLUMNS, style="dim")
    for note in parts.notes:
        console.print(f"note: {note}", style="yellow")


def show_word_parts(parts: WordParts) -> None:
    """Print a table of parts of captions, and the notes."""
    console = Terminal(width=None if sys.stdout.isatty() else 120)
    console.print(Text(f"{parts.model['id']}, {parts.data.get('pairs')} pairs", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "verdict", "score", "captions", "on names", "needed", "sufficient", "stable", "words"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)

    for part in parts.parts:
        table.add_row(
            str(part.number),
            Text(part.verdict, style=_STYLES[part.verdict]),
            f"{part.share:.0%}",
            str(part.captions),
            "-" if part.on_names is None else f"{part.on_names:.0%}",
            *(f"{effect.value:.2f}" if effect else "-" for effect in (part.needed, part.sufficient)),
            f"{part.stability:.0%}",
            Text(", ".join(word.word for word in part.words[:4])),
        )

    console.print(table)
    console.print(WORD_COLUMNS, style="dim")
    for note in parts.notes:
        console.print(f"note: {note}", style="yellow")


def table_of_parts(parts: Parts) -> Table:
    """Return a table with a row for each part."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "verdict", "score", "images", "on objects", "needed", "sufficient", "place", "name", "stable"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)

    for part in parts.parts:
        table.add_row(
            str(part.number),
            Text(part.verdict, style=_STYLES[part.verdict]),
            f"{part.share:.0%}",
            str(part.images),
            "-" if part.on_objects is None else f"{part.on_objects:.0%}",
            *(f"{effect.value:.2f}" if effect else "-" for effect in (part.needed, part.sufficient)),
            part.where,
            part.name or "-",
            f"{part.stability:.0%}",
        )

    return table
