"""Display of results in a terminal (rich): colored words and tables."""

import sys
from collections.abc import Sequence
from decimal import Decimal

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from nibt.cli.terminal import Terminal
from nibt.registry import available, find
from nibt.report.certificate import HEADINGS, certificate, moved_by, span, threshold
from nibt.report.colors import DEFAULT, Appearance, ink_on
from nibt.report.request import (
    Shown,
    Worded,
    names_of,
    ranked_labels,
    ranked_noun,
    ranked_subjects,
    runs,
    sentence,
    shared_word_scale,
    side_title,
    similarity_name,
    target_line,
)
from nibt.results.answer import AnswerExplanation, is_change
from nibt.results.attribution import ImageAttribution, SideAttribution, TextAttribution
from nibt.results.audit import VERDICTS, Audit
from nibt.results.audit_questions import CHECKS, QUESTIONS
from nibt.results.explanation import Explanation, shortened
from nibt.results.regions import Regions


def caption(worded: Worded, look: Appearance = DEFAULT, most: float | None = None) -> Text:
    """Return a caption with the words on the colors of their scores.

    ``most`` is the largest absolute score of a scale that several captions share.
    """
    line = Text()
    for run in runs(worded, look, most):
        line.append(
            f" {run.text} ",
            style=Style(color=Color.from_rgb(*ink_on(run.background)), bgcolor=Color.from_rgb(*run.background)),
        )
        line.append(" ")
    return line


_LEFT = ("target", "against")  # columns of text; the first column of a table has text, too
_SUMMARY = ("side", "target", "score", "baseline", "attributed", "gap", "special tokens")


def summary(answer: Explanation) -> Table:
    """Return a table with a row per side, in which ``attributed + baseline + gap = score``."""
    table = _table(_SUMMARY)
    for name, side in answer.sides.items():
        title = side_title(answer, name).removesuffix(" side")
        score = answer.target[name]
        target = similarity_name(answer) if score["name"] == "cosine" else score["name"]
        table.add_row(title, target, *balance(score["value"], side), f"{float(side.special_token_share):.0%}")
    return table


def _table(headings: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if heading in _LEFT or not place else "right")
    return table


def balance(score: float, side: SideAttribution) -> tuple[str, str, str, str]:
    """Return the score, the baseline, the attributed part and the gap as texts; the rounded numbers add up."""
    path = side.path
    if path is None:
        return f"{score:.4f}", "-", "-", "-"
    value, baseline, attributed = (
        Decimal(f"{float(number):z.4f}") for number in (path.at_input, path.at_baseline, path.sum)
    )
    gap = value - baseline - attributed
    return f"{value:.4f}", f"{baseline:.4f}", f"{attributed:+.4f}", f"{gap:+.4f}" if gap else "0.0000"


def ranking(explanation: Explanation) -> Table:
    """Return the table of ranked labels, the best first."""
    table = _table((ranked_noun(explanation), "cosine", "probability"))
    subjects = ranked_subjects(explanation)
    for label in ranked_labels(explanation):
        name = Text(label.label, "bold" if label.position in subjects else "")
        table.add_row(name, f"{label.cosine:.4f}", f"{label.probability:.1%}")
    return table


def words(worded: Worded, width: int = 80) -> str:
    """Return the words with their scores, for terminals without colors. No line parts a word from its score."""
    lines = [""]
    for run in runs(worded):
        text = f"{run.text} {run.score:+.4f}"
        if lines[-1] and cell_len(lines[-1]) + 2 + cell_len(text) > width:
            lines.append("")
        lines[-1] += f"  {text}" if lines[-1] else text
    return "\n".join(lines)


def methods() -> None:
    """Print a table of the methods."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("method", "sides", "needs", "variants", "cost in forward passes", "paper"):
        table.add_column(heading, no_wrap=heading == "method")
    for name in available("methods"):
        method_class = find("methods", name)
        lists = (", ".join(values) or "-" for values in (method_class.sides, method_class.needs, method_class.variants))
        table.add_row(name, *lists, method_class.cost, method_class.paper)
    Terminal(width=None if sys.stdout.isatty() else 200).print(table)


def show(answers: Sequence[Explanation], look: Appearance) -> None:
    """Print answers: the words, the scores and the warnings."""
    console = Terminal()
    names = _image_names(answers)
    for answer in answers:
        sources = [side.source for side in answer.sides.values()] if answer.is_comparison else [answer.source]
        title = " with ".join([names.get(source, source) for source in sources])
        _print_title(console, title, f"similarity {answer.similarity:z.4f}")
        _before(console, answer)
        if answer.ranking:
            console.print(ranking(answer))
        for side in answer.sides.values():
            if isinstance(side, TextAttribution):
                if console.color_system:
                    console.print(caption(side, look, shared_word_scale(answer)))
                else:
                    console.print(Text(words(side, console.width)), soft_wrap=True)
        console.print(summary(answer))
        for check in answer.checks:
            verdict = Text(f"{check.verdict}: ", style=_VERDICT_STYLES[check.verdict])
            console.print(verdict.append(sentence(check.about), "not bold default"), soft_wrap=True)
        if answer.decisive:
            console.print(sentence(answer.decisive.about), soft_wrap=True)
        for warning in answer.other_warnings:
            console.print(f"note: {warning}", style="yellow")


def _image_names(results: Sequence[Explanation | Regions]) -> dict[str, str]:
    """Return the names of the images of results without their folders, as far as they still differ."""
    sources: list[str] = []
    for result in results:
        if isinstance(result, Regions):
            sources.append(result.source)
        else:
            sources += [side.source for side in result.sides.values() if isinstance(side, ImageAttribution)]
    distinct = list(dict.fromkeys(sources))
    return dict(zip(distinct, names_of(distinct), strict=True))


_SUMS = "sum: what a word and the image add together; nibt explain shows what a word adds for this image"
"""Which of two numbers of a word the table of regions has."""


def _print_title(console: Console, source: str, text: str) -> None:
    """Print the names of images, which may have spaces, on one line."""
    console.print(Text(source, style="bold").append(f"  {text}", "not bold"), soft_wrap=True)


def _before(console: Console, answer: Shown) -> None:
    """Print what a reader must know before the scores: the mismatch warning, and a target other than the similarity."""
    no_match = answer.mismatch
    if no_match:
        console.print(sentence(no_match), style="bold yellow")
    if target_line(answer) != f"target {similarity_name(answer)}":
        console.print(target_line(answer), style="dim")


def show_regions(results: Sequence[Regions], methods: Sequence[str] = ()) -> None:
    """Print the sum of each word's map, with its strongest score and the position of that score.

    ``methods`` has the method of each result, if there are several.
    """
    console = Terminal()
    names = _image_names(results)
    for number, regions in enumerate(results):
        of_method = f", {methods[number]}" if methods else ""
        _print_title(console, names[regions.source], f"similarity {regions.similarity:z.4f}{of_method}")
        _before(console, regions)
        table = _table(("word", "sum", "strongest", "at (x, y)"))
        grid, region = regions.grid, regions.region
        for word, scores in zip(regions.words, regions.table, strict=True):
            row, column = divmod(int(scores.abs().argmax()), grid.columns)
            across = region.left + (column + 0.5) * region.width / grid.columns
            down = region.top + (row + 0.5) * region.height / grid.rows
            strongest = f"{float(scores[row, column]):+.4f}"
            table.add_row(word.text, f"{float(scores.sum()):+.4f}", strongest, f"{across:.0f}, {down:.0f}")
        console.print(table)
        sums = f"{regions.sum:+.4f}, gap {regions.gap:+.4f}"
        console.print(f"sum of all entries, with special tokens: {sums}", style="dim")
        console.print(_SUMS, style="dim")
        for warning in regions.other_warnings:
            console.print(f"note: {warning}", style="yellow")


def show_answers(results: Sequence[AnswerExplanation]) -> None:
    """Print each word of an answer, with what it took from the image, the prompt and the words before."""
    console = Terminal()
    for result in results:
        sources = [image.source for image in result.images] or [result.source]
        _print_title(console, " + ".join(names_of(sources)), result.prompt)
        console.print(Text(result.answer, style="bold"))
        texts = {"word": [word.text for word in result.words]}
        if result.alternatives:
            texts["against"] = [*result.alternatives]
        for heading, values in result.columns.items():
            texts[heading] = [f"{value:{'+' if is_change(heading) else ''}z.2f}" for value in values]
        table = _table([*texts])
        table.collapse_padding = True  # so that all columns fit into 80 characters
        for row in zip(*texts.values(), strict=True):
            table.add_row(*row)
        console.print(table)
        if result.equation:
            console.print(result.equation, style="dim", soft_wrap=True)
        for warning in result.warnings:
            console.print(f"note: {warning}", style="yellow")


_VERDICT_STYLES = {
    "pass": "bold blue",
    "no verdict": "bold",
    "warn": "bold yellow",
    "cannot tell": "bold yellow",
    "fail": "bold red",
}


def show_audit(audit: Audit) -> None:
    """Print the checks of an audit by question, and the number of checks per verdict."""
    console = Terminal(width=None if sys.stdout.isatty() else 120)
    console.print(Text(f"{audit.model['id']}, {audit.data.get('pairs')} pairs", style="bold"))
    for number, question in QUESTIONS.items():
        checks = [check for check in audit.checks if check.question == number]
        if not checks:
            continue
        console.print(Text(f"\n{number}. {question.heading}", style="bold"))
        table = Table(box=None, pad_edge=False, show_header=False)
        for check in checks:
            verdict = Text(check.verdict, style=_VERDICT_STYLES[check.verdict])
            table.add_row(
                verdict,
                check.method,
                check.side,
                check.about,
                span(check),
                f"n {check.count}",
                Text(threshold(check), "dim"),
            )
        console.print(table)
        for name in dict.fromkeys(check.name for check in checks if check.verdict not in ("pass", "no verdict")):
            if CHECKS[name].advice:
                console.print(f"{name}: {CHECKS[name].advice}", style="dim")
        if number == 8 and audit.unknown_nouns:
            console.print(f"{len(audit.unknown_nouns)} unknown: {shortened(audit.unknown_nouns)}", style="dim")
    if audit.against:
        console.print(Text(f"\nDifference from {audit.against['id']}", style="bold"))
        table = Table(box=None, pad_edge=False, show_header=False)
        for row in audit.differences:
            means = f"{row.value:.3f}, {row.against:.3f}"
            table.add_row(row.verdict, row.method, row.side, row.about, means, moved_by(row))
        console.print(table)
    for note in audit.notes:
        console.print(f"note: {note}", style="yellow")
    certified = certificate(audit)
    console.print(f"\n{certified.checked}")
    for heading, sentences in certified.sections.items():
        if heading != HEADINGS["pass"]:  # which the tables above show
            console.print(Text(heading, style="bold"))
            console.print("\n".join(f"- {sentence}" for sentence in sentences))
    if certified.command:
        console.print(Text("Repeat it: ", style="bold").append(certified.command, "not bold"))
    total = ", ".join(f"{audit.count(name)} {name}" for name in VERDICTS if audit.count(name))
    console.print(Text(f"\n{total}, in {audit.seconds:.0f} s", style=_VERDICT_STYLES[audit.verdict]))
