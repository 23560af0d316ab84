"""Answers in a notebook: ``%load_ext nibt`` registers them with IPython, on demand, so that data know of no drawing.

An answer is shown as its page (``nibt.report.html.page``) in a frame of its own, which is allowed scripts and nothing
else; front ends without HTML get the image. What was loaded from a file whose image is gone is shown as text.
"""

from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO
from typing import Any
from weakref import WeakKeyDictionary

from nibt.errors import BadInput, Unsupported
from nibt.report.html.audit import page as audit_page
from nibt.report.html.document import document
from nibt.report.html.page import Shown, page
from nibt.report.html.tables import SCRIPT, STYLE, data_table
from nibt.report.html.view import Panel
from nibt.report.image.explanation import draw
from nibt.report.image.interactions import draw_interactions
from nibt.results.attribution import ImageAttribution
from nibt.results.audit import Audit
from nibt.results.explanation import Comparison, Explanation
from nibt.results.interaction import Interaction
from nibt.results.measurement import Measurement

_WIDE = 420  # about how wide an image is in a notebook, in pixels
_Printer = Callable[[Any], Any]
_before: WeakKeyDictionary[Any, list[tuple[Any, type, _Printer | None]]] = WeakKeyDictionary()


def show(answers: Shown | Sequence[Shown], title: str = "", positive_only: bool = False) -> None:
    """Show one answer, or several beside each other, in the notebook; a ``Panel`` is one with its word-region table.

    Raises:
        BadInput: There is no answer, or one was loaded from a file and its image is no longer there.
        Unsupported: This is no notebook, for IPython is not installed.

    """
    try:
        from IPython.display import HTML, display
    except ImportError as error:
        raise Unsupported(
            "answers are shown in a notebook, and IPython is not installed: pip install jupyterlab, or "
            "write a file with nibt.write_page"
        ) from error
    listed = list(answers) if isinstance(answers, Sequence) else [answers]
    text = framed(
        page(listed, title, positive_only), _height([one if isinstance(one, Panel) else Panel(one) for one in listed])
    )
    display(HTML(text))


def register(shell: Any) -> None:
    """Let an IPython shell show answers, tables of rows and audits; ``unregister`` takes it back."""
    if shell in _before:
        return
    formatters = shell.display_formatter.formatters
    wanted = [
        *(("text/html", kind, _html) for kind in (Explanation, Comparison, Interaction, Panel)),
        *(("image/png", kind, _png) for kind in (Explanation, Comparison, Interaction)),
        ("text/html", Audit, lambda audit: framed(audit_page(audit), 900)),
        ("text/html", list, _rows),
    ]
    _before[shell] = [(formatters[mime], kind, formatters[mime].type_printers.get(kind)) for mime, kind, _ in wanted]
    for mime, kind, printer in wanted:
        formatters[mime].for_type(kind, printer)


def unregister(shell: Any) -> None:
    """Leave the shell as it was found."""
    for formatter, kind, printer in _before.pop(shell, []):
        if printer is None:
            formatter.pop(kind, None)
        else:
            formatter.for_type(kind, printer)


def framed(text: str, height: int) -> str:
    """A page in a frame: its styles do not leak, and it can reach nothing of the notebook.

    It is as high as is guessed, since it cannot tell its own height, and can be pulled higher.
    """
    return (
        f'<iframe title="nibt" sandbox="allow-scripts" srcdoc="{escape(text)}" '
        f'style="width:100%;height:{height}px;border:0;resize:vertical;overflow:auto"></iframe>'
    )


def _html(answer: Shown) -> str | None:
    panel = answer if isinstance(answer, Panel) else Panel(answer)
    try:
        return framed(page(panel), _height([panel]))
    except BadInput:  # the image is gone: the text of its repr is what there is
        return None


def _png(answer: Explanation | Comparison | Interaction) -> bytes | None:
    buffer = BytesIO()
    try:
        drawn = draw_interactions(answer) if isinstance(answer, Interaction) else draw(answer)
    except BadInput:
        return None
    drawn.save(buffer, "PNG")
    return buffer.getvalue()


def _rows(listed: list[Any]) -> str | None:
    """Rows as a table: a line for each metric and side with its mean; another list is none of ours."""
    if not listed or not all(isinstance(one, Measurement) for one in listed):
        return None
    groups: dict[tuple[str, str], list[float]] = {}
    for row in listed:
        values = groups.setdefault((row.metric, row.side), [])
        if row.value == row.value:
            values.append(row.value)
    lines = [
        [metric, side, f"{sum(values) / len(values):.4g}" if values else "-", str(len(values))]
        for (metric, side), values in groups.items()
    ]
    table = data_table(["metric", "side", "mean", "pairs"], lines)
    return framed(document("Measured", f"<main>{table}</main>", STYLE, [SCRIPT]), 130 + 34 * len(lines))


def _height(panels: Sequence[Panel]) -> int:
    """About how high the page of some panels is, in pixels, in a column of a notebook."""
    beside = 1 if len(panels) == 1 else 2
    heights = [_panel_height(panel, alone=beside == 1) for panel in panels]
    rows = (heights[first : first + beside] for first in range(0, len(heights), beside))
    return 330 + sum(max(row) + 30 for row in rows)


def _panel_height(panel: Panel, alone: bool) -> int:
    images = [
        _WIDE * part.size[1] // part.size[0] + 60 for part in panel.sides.values() if isinstance(part, ImageAttribution)
    ]
    ranked = len(panel.answer.ranking) if isinstance(panel.answer, Explanation) else 0
    said = (
        260
        + 70 * len(panel.answer.warnings)
        + 36 * ranked
        + 8 * sum(len(part.source) for part in panel.sides.values()) // 5
    )
    pictured = min(max(images, default=0), 700)
    return 150 + (max(pictured, said) if alone else pictured + said)
