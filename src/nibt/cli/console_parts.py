"""Display of parts of evidence in a terminal."""

import sys

from rich.table import Table
from rich.text import Text

from nibt.cli.terminal import Terminal
from nibt.results.parts import Parts

_NUMBERS = ("score", "images", "on objects", "needed", "sufficient", "stable")
_STYLES = {"shortcut": "bold red", "object": "bold blue", "not needed": "bold", "no verdict": "bold"}
COLUMNS = (
    "needed: what images lose without the part's cells, as a share of what they lose without all. sufficient: what "
    "others gain by them."
)
"""What two columns of the table mean."""


def show_parts(parts: Parts) -> None:
    """Print a table of parts, and the notes."""
    console = Terminal(width=None if sys.stdout.isatty() else 120)
    console.print(Text(f"{parts.model['id']}, {parts.data.get('pairs')} pairs", style="bold"))
    console.print(table_of_parts(parts))
    console.print(COLUMNS, style="dim")
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
