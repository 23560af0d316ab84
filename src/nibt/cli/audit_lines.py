"""How an audit looks in a terminal (rich): a line a check, with its verdict."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nibt.report.html.audit import QUESTIONS, span, threshold
from nibt.results.audit import VERDICTS, Audit

_STYLES = {"pass": "bold blue", "warn": "bold yellow", "fail": "bold red"}


def show(audit: Audit) -> None:
    """The lines of each question, and how many passed."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(Text(f"{audit.model['id']}, {audit.data.get('pairs')} pairs", style="bold"))
    for number, (question, _) in QUESTIONS.items():
        checks = [check for check in audit.checks if check.question == number]
        if not checks:
            continue
        console.print(Text(f"\n{number}. {question}", style="bold"))
        table = Table(box=None, pad_edge=False, show_header=False)
        for check in checks:
            verdict = Text(check.verdict, style=_STYLES[check.verdict])
            table.add_row(verdict, check.method, check.side, check.about, span(check), Text(threshold(check), "dim"))
        console.print(table)
    for note in audit.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    total = ", ".join(f"{audit.count(name)} {name}" for name in VERDICTS)
    console.print(Text(f"\n{total}, in {audit.seconds:.0f} s", style=_STYLES[audit.verdict]))
