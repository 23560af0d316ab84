"""Tables of text as Markdown, LaTeX and HTML, and the lines of a summary as CSV."""

import csv
import html
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nibt.evaluation.bench.summary import Line
from nibt.evaluation.statistics import Interval
from nibt.report.html.tables import data_table

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


@dataclass(frozen=True)
class Table:
    """Rows of texts under their headings, with a title before and a note after."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """A section with a table of pipes; what looks like a pipe is escaped.

        >>> print(Table("t", ["a", "b"], [["1", "x|y"]]).markdown())
        ## t
        <BLANKLINE>
        | a | b |
        |---|---|
        | 1 | x\\|y |

        """
        lines = [
            f"## {self.title}",
            "",
            _piped(self.headings),
            "|---" * len(self.headings) + "|",
            *map(_piped, self.rows),
        ]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])

    def latex(self) -> str:
        r"""A table of the package booktabs.

        >>> "a\\_b & c \\\\" in Table("t", ["a_b", "c"], []).latex()
        True

        """
        columns = "l" + "r" * (len(self.headings) - 1)
        lines = [
            r"\begin{table}",
            rf"\caption{{{_latex(self.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _ampersands(self.headings),
            r"\midrule",
            *map(_ampersands, self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *([_latex(self.note)] if self.note else []),
            r"\end{table}",
        ]
        return "\n".join(lines)

    def html(self) -> str:
        """A section with a table, whose columns a page with the script of ``nibt.report.html.tables`` sorts."""
        note = f'<p class="note">{html.escape(self.note)}</p>' if self.note else ""
        return f"<h2>{html.escape(self.title)}</h2>\n{data_table(self.headings, self.rows)}\n{note}"


def number(value: float, digits: int = 3) -> str:
    """A number of a table; a dash where there is none.

    >>> number(0.5), number(123.456), number(float("nan"))
    ('0.500', '123.5', '-')

    """
    if math.isnan(value):
        return "-"
    return f"{value:.{digits if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"


def with_interval(found: Interval) -> str:
    """A number and its interval.

    >>> with_interval((0.5, 0.25, 0.75))
    '0.500 [0.250, 0.750]'

    """
    return number(found[0]) + ("" if math.isnan(found[1]) else f" [{number(found[1])}, {number(found[2])}]")


def as_csv(lines: Iterable[Line]) -> str:
    """One line for each line of a summary, with nothing rounded."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            "model",
            "data",
            "target",
            "side",
            "metric",
            "better",
            "method",
            "mean",
            "low",
            "high",
            "pairs",
            "failed",
            "p_holm",
            "won",
            "seconds",
        ]
    )
    for line in lines:
        group = line.of.group
        writer.writerow(
            [
                *group,
                line.of.side,
                line.of.metric,
                line.better,
                line.of.method,
                *line.mean,
                line.count,
                line.failed,
                line.p,
                line.won,
                line.seconds,
            ]
        )
    return file.getvalue()


def _piped(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _ampersands(cells: Iterable[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(one, one) for one in text)
