"""How answers look in a terminal (rich): coloured words, and a summary."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nibt.explanation import Answer, Explanation
from nibt.interaction import Interaction
from nibt.part import CaptionPart
from nibt.registry import available, find
from nibt.report.colours import ink_on
from nibt.report.words import Worded, runs


def caption(worded: Worded, positive: bool = False) -> Text:
    """The words on their colours."""
    line = Text()
    for run in runs(worded, positive):
        line.append(f" {run.text} ", style=_style(run.background))
        line.append(" ")
    return line


def _style(background: tuple[int, int, int]) -> str:
    ink, paper = ink_on(background), background
    return f"rgb({ink[0]},{ink[1]},{ink[2]}) on rgb({paper[0]},{paper[1]},{paper[2]})"


def summary(answer: Answer) -> Table:
    """What was measured, a row a side."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("side", "explained", "score", "of it found", "gap", "on special tokens"):
        table.add_column(heading, justify="left" if heading in ("side", "explained") else "right")
    for name, part in answer.parts.items():
        told, side = answer.score[name], part.attribution
        narrowing = side.narrowing
        found, gap = ("", "") if narrowing is None else (f"{float(narrowing.sum):+.4f}", f"{float(narrowing.gap):.1g}")
        table.add_row(name, told["target"], f"{told['value']:.4f}", found, gap, f"{float(side.special_share):.0%}")
    return table


def ranking(explanation: Explanation) -> Table:
    """Labels from best to worst."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("label", "cosine", "probability"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for label in explanation.ranking:
        table.add_row(label.label, f"{label.cosine:.4f}", f"{label.probability:.1%}")
    return table


def words(worded: Worded) -> str:
    """The words with their scores, where there are no colours to see."""
    return "  ".join(f"{run.text} {run.score:+.4f}" for run in runs(worded))


def methods() -> None:
    """What each method says of itself; a line each, where nobody's window is too narrow for it."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("method", "sides", "needs", "variants", "cost in forward passes", "paper"):
        table.add_column(heading, no_wrap=heading == "method")
    for name in available("methods"):
        kind = find("methods", name)
        lists = (", ".join(part) or "-" for part in (kind.sides, kind.needs, kind.variants))
        table.add_row(name, *lists, kind.cost, kind.paper)
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def title(answer: Answer) -> str:
    """The picture that is explained, or the two things that are compared."""
    if isinstance(answer, Explanation):
        return answer.source
    return " with ".join(part.source for part in answer.parts.values())


def show(answers: Sequence[Answer], positive: bool) -> None:
    """Everything that a person wants to see at once."""
    console = Console(highlight=False)
    for answer in answers:
        console.print(Text(title(answer), style="bold").append(f"  similarity {answer.similarity:.4f}", "not bold"))
        if isinstance(answer, Explanation) and answer.ranking:
            console.print(ranking(answer))
        for part in answer.parts.values():
            if isinstance(part, CaptionPart):
                console.print(caption(part, positive) if console.color_system else Text(words(part)))
        console.print(summary(answer))
        for warning in answer.warnings:
            console.print(f"note: {warning}", style="yellow", markup=False)


def show_regions(tables: Sequence[Interaction]) -> None:
    """For each word: the sum of its map, and where on the picture its strongest place is."""
    console = Console(highlight=False)
    for found in tables:
        console.print(Text(found.source, style="bold").append(f"  similarity {found.similarity:.4f}", "not bold"))
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("word", "sum", "strongest", "at (x, y)"):
            table.add_column(heading, justify="left" if heading == "word" else "right")
        for word, grid in zip(found.words, found.table, strict=True):
            row, column = divmod(int(grid.abs().argmax()), found.grid.columns)
            across = found.region.left + (column + 0.5) * found.region.width / found.grid.columns
            down = found.region.top + (row + 0.5) * found.region.height / found.grid.rows
            table.add_row(
                word.text, f"{float(grid.sum()):+.4f}", f"{float(grid[row, column]):+.4f}", f"{across:.0f}, {down:.0f}"
            )
        console.print(table)
        console.print(f"all of it {float(found.scores.sum()):+.4f}, gap {found.gap:.1g}", style="dim")
        for warning in found.warnings:
            console.print(f"note: {warning}", style="yellow", markup=False)
