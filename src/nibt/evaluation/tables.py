"""Reports of runs and their tables, in Markdown, LaTeX and HTML."""

import html
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nibt.evaluation.statistics import Interval
from nibt.io import one_line
from nibt.report.html.document import TABLE_SCRIPT, TABLE_STYLE, data_table, document
from nibt.results.frames import DataFrame
from nibt.results.sessions import SessionRecord

_LATEX_ESCAPES = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {character: f"\\{character}" for character in "&%$#_{}"}
)


@dataclass(frozen=True)
class ReportTable:
    """A table of texts on one line each; its title is the heading of a section, or the caption in LaTeX."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __post_init__(self) -> None:
        """Put labels and other texts of users on one line."""
        rows = [list(map(one_line, row)) for row in self.rows]
        texts = {"title": one_line(self.title), "headings": list(map(one_line, self.headings)), "rows": rows}
        vars(self).update(texts, note=one_line(self.note))

    @classmethod
    def of(cls, title: str, frame: DataFrame, note: str = "") -> "ReportTable":
        """Build the table of a DataFrame, whose index becomes the first column."""
        rows = [[str(cell) for cell in row] for row in frame.itertuples()]
        return cls(title, [str(frame.index.name), *map(str, frame.columns)], rows, note)

    def markdown(self) -> str:
        r"""Return a section with the table in Markdown. Pipes, backslashes and tags in cells are escaped.

        >>> print(ReportTable("t", ["a", "b"], [["1", "x|y"]]).markdown())
        ## t
        <BLANKLINE>
        | a | b |
        |---|---|
        | 1 | x\|y |
        """
        lines = [
            f"## {_escaped(self.title)}",
            "",
            _markdown_row(self.headings),
            "|---" * len(self.headings) + "|",
            *map(_markdown_row, self.rows),
        ]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])

    def latex(self, label: str = "", is_wide: bool = False) -> str:
        r"""Return the table in LaTeX, for the package booktabs, with its note below it.

        Args:
            label: The label that the text refers to; empty for none.
            is_wide: Whether the table is as wide as a page with two columns.

        >>> "a\\_b & c \\\\" in ReportTable("t", ["a_b", "c"], []).latex()
        True
        """
        environment = "table*" if is_wide else "table"
        columns = "l" + "r" * (len(self.headings) - 1)
        note = rf"\par\smallskip {latex_text(self.note)}"
        lines = [
            rf"\begin{{{environment}}}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{latex_text(self.title)}}}",
            *([rf"\label{{{label}}}"] if label else []),
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_row(self.headings),
            r"\midrule",
            *map(_latex_row, self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *([note] if self.note else []),
            rf"\end{{{environment}}}",
        ]
        return "\n".join(lines)

    def html(self) -> str:
        """Return a section with the table in HTML, which the script of ``nibt.report.html.document`` makes sortable."""
        note = f'<p class="note">{html.escape(self.note)}</p>' if self.note else ""
        return f"<h2>{html.escape(self.title)}</h2>\n{data_table(self.headings, self.rows)}\n{note}"


def report_markdown(title: str, about: Iterable[str], tables: Iterable[ReportTable]) -> str:
    """Return a report in Markdown: paragraphs, followed by tables."""
    return (
        "\n\n".join(
            [
                f"# {_escaped(one_line(title))}",
                *(_escaped(one_line(text)) for text in about),
                *(table.markdown() for table in tables),
            ]
        )
        + "\n"
    )


def report_page(
    title: str, about: Iterable[str], tables: Iterable[ReportTable], plots: Iterable[tuple[str, bytes]] = ()
) -> str:
    """Return a report in HTML: paragraphs, tables, and plots (the bytes of PNG files) with their titles."""
    lines = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(paragraph)}</p>" for paragraph in about)]
    lines += [table.html() for table in tables]
    for name, png in plots:
        heading = html.escape(name)
        data = b64encode(png).decode()
        lines.append(f'<h2>{heading}</h2><img alt="{heading}" src="data:image/png;base64,{data}">')

    return document(title, "<main>" + "\n".join(lines) + "</main>", TABLE_STYLE, [TABLE_SCRIPT])


def describe_session(session: SessionRecord) -> str:
    """Return the machine and the versions of a session, for a report."""
    machine = session["machine"]
    versions = session["versions"]
    accelerator = f", {machine['accelerator']}" if machine["accelerator"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return (
        f"{machine['processor'] or machine['architecture']} with {machine['threads']} thread(s){accelerator}; "
        f"Python {machine['python']}, {packages}"
    )


def number(value: float, digits: int = 3) -> str:
    """Format a number for a table; NaN is a dash.

    >>> number(0.5), number(123.456), number(float("nan"))
    ('0.500', '123.5', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:.{digits if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"


def with_interval(mean: Interval) -> str:
    """Format a number with its interval.

    >>> with_interval(Interval(0.5, 0.25, 0.75))
    '0.500 [0.250, 0.750]'
    """
    value, low, high = mean
    return number(value) + ("" if math.isnan(low) else f" [{number(low)}, {number(high)}]")


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    """Return a text without what would end a cell or begin a tag in Markdown."""
    return re.sub(r"[\\|]|<(?=[\w/!?])", r"\\\g<0>", text)


def latex_text(text: str) -> str:
    r"""Return a text with what LaTeX would read as commands escaped.

    >>> latex_text("100 % of a_b")
    '100 \\% of a\\_b'
    """
    return text.translate(_LATEX_ESCAPES)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"
