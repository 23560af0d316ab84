"""Display of audits in a terminal."""

import sys
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from nibt.cli.console import VERDICT_STYLES
from nibt.cli.console_parts import COLUMNS, table_of_parts
from nibt.cli.terminal import Terminal
from nibt.report.certificate import HEADINGS, Certificate, certificate, moved_by, span, threshold
from nibt.results.audit import Audit, ModelDifference
from nibt.results.audit_questions import QUESTION_OF_PARTS, CheckTexts
from nibt.results.check import VERDICTS, Check
from nibt.results.explanation import shortened


def show_audit(audit: Audit) -> None:
    """Print the checks of an audit by question, and the number of checks per verdict."""
    console = Terminal(width=None if sys.stdout.isatty() else 120)
    console.print(Text(f"{audit.model['id']}, {audit.data.get('pairs')} {audit.questionnaire.noun}", style="bold"))
    for number in audit.questionnaire.questions:
        _show_question(console, audit, number)

    if audit.subject == "answers":
        for mean in audit.scores:
            console.print(f"{mean.metric}: {span(mean)}  n {mean.count}")

    if audit.against:
        console.print(Text(f"\nDifference from {audit.against['id']}", style="bold"))
        _show_differences(console, audit.differences)

    for note in audit.notes:
        console.print(f"note: {note}", style="yellow")
    _show_certificate(console, certificate(audit))
    total = ", ".join(f"{audit.count(name)} {name}" for name in VERDICTS if audit.count(name))
    console.print(Text(f"\n{total}, in {audit.seconds:.0f} s", style=VERDICT_STYLES[audit.verdict]))


def _show_question(console: Terminal, audit: Audit, number: int) -> None:
    """Print the checks and the parts of a question; nothing if there are none."""
    checks = [check for check in audit.checks if check.question == number]
    parts = audit.parts if number == QUESTION_OF_PARTS else ()
    if not (checks or parts):
        return

    heading = audit.questionnaire.questions[number].heading
    seconds = f" ({audit.question_seconds[number - 1]:.1f} s)" if audit.question_seconds else ""
    console.print(Text.assemble((f"\n{number}. {heading}", "bold"), (seconds, "dim")))
    if checks:
        _show_checks(console, checks, audit.questionnaire.checks)
    for found in parts:
        console.print(Text(found.method, style="bold"))
        console.print(table_of_parts(found))
    if parts:
        console.print(COLUMNS, style="dim")
    if checks and number == 8 and audit.unknown_nouns:
        console.print(f"{len(audit.unknown_nouns)} unknown: {shortened(audit.unknown_nouns)}", style="dim")


def _show_checks(console: Terminal, checks: Sequence[Check], texts: Mapping[str, CheckTexts]) -> None:
    """Print the checks of a question, and what to do about those that do not pass."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        table.add_row(
            Text(check.verdict, style=VERDICT_STYLES[check.verdict]),
            check.method,
            check.side,
            check.about,
            span(check),
            f"n {check.count}",
            Text(threshold(check), "dim"),
        )

    console.print(table)

    not_passed = dict.fromkeys(check.name for check in checks if check.verdict not in ("pass", "no verdict"))
    for name in not_passed:
        if texts[name].advice:
            console.print(f"{name}: {texts[name].advice}", style="dim")


def _show_differences(console: Terminal, differences: Sequence[ModelDifference]) -> None:
    """Print the differences between two models."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in differences:
        means = f"{row.value:.3f}, {row.against:.3f}"
        table.add_row(row.verdict, row.method, row.side, row.about, means, moved_by(row))
    console.print(table)


def _show_certificate(console: Terminal, certified: Certificate) -> None:
    """Print what was checked, what does not pass, and the command that repeats the audit."""
    console.print(f"\n{certified.checked}")
    for heading, sentences in certified.sections.items():
        if heading != HEADINGS["pass"]:  # which the tables above show
            console.print(Text(heading, style="bold"))
            console.print("\n".join(f"- {sentence}" for sentence in sentences))

    if certified.command:
        console.print(Text("Repeat it: ", style="bold").append(certified.command, "not bold"))
