"""Results in notebooks: pages in frames, or images where there is no HTML, as ``displays`` registers them."""

from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

from nibt.errors import BadInput, Unsupported
from nibt.registry import find, kinds
from nibt.report.html.document import TABLE_SCRIPT, TABLE_STYLE, data_table, document
from nibt.report.html.view import Panel, Shown, page, panels_of
from nibt.report.image.draw import draw
from nibt.results.attribution import ImageAttribution
from nibt.results.explanation import Explanation
from nibt.results.records import Measurement

_WIDE = 420  # approximate width of an image in a notebook, in pixels


def show(answers: Shown | Sequence[Shown], title: str = "", positive_only: bool = False) -> None:
    """Show one result, or several side by side, in a notebook.

    Args:
        answers: The results. A ``Panel`` is a result with its word-region table.
        title: The title.
        positive_only: Whether only positive scores are shown at first.

    Raises:
        BadInput: There is no result, or the image of a loaded result is missing.
        Unsupported: IPython is not installed.
    """
    try:
        from IPython.display import HTML, display
    except ImportError as error:
        raise Unsupported(
            "showing results in a notebook needs IPython, which is not installed: pip install jupyterlab, or "
            "write a file with nibt.save"
        ) from error
    display(HTML(to_html(answers, title, positive_only)))


def to_html(answers: Shown | Sequence[Shown], title: str = "", positive_only: bool = False) -> str:
    """Return results as HTML for a page of your own: a frame with the interactive page of one result, or of several.

    The frame has its own styles and scripts, loads nothing, and cannot reach the page around it.

    Args:
        answers: The results. A ``Panel`` is a result with its word-region table.
        title: The title.
        positive_only: Whether only positive scores are shown at first.

    Raises:
        BadInput: There is no result, or the image of a loaded result is missing.

    Examples:
        >>> import nibt
        >>> nibt.to_html(nibt.explain("scenes", "sample:scene", "a cat"))[:20]
        '<iframe title="nibt"'
    """
    panels = panels_of(answers)
    return framed(page(panels, title, positive_only), _height(panels))


def display_data(value: Any, media_type: str) -> str | bytes | None:
    """Return a result, an audit or a list of measurements in a media type, or None if it has no such form."""
    if isinstance(value, list):
        return _measurement_table(value)
    if getattr(value, "kind", None) in kinds("pages"):
        return framed(find("pages", value.kind)().page(value), 900)

    try:
        if media_type == "text/html":
            return to_html(value)

        buffer = BytesIO()
        draw(value).save(buffer, "PNG")
        return buffer.getvalue()
    except BadInput:  # the image is missing: IPython falls back to the repr
        return None


def framed(text: str, height: int) -> str:
    """Return a page in a resizable frame, which isolates its styles and has no access to the notebook."""
    return (
        f'<iframe title="nibt" sandbox="allow-scripts" srcdoc="{escape(text)}" '
        f'style="width:100%;height:{height}px;border:0;resize:vertical;overflow:auto"></iframe>'
    )


def _measurement_table(results: list[Any]) -> str | None:
    """Return measurements as a table of means by metric and side; None for other lists."""
    if not results or not all(isinstance(result, Measurement) for result in results):
        return None

    groups: dict[tuple[str, str], list[float]] = {}
    for row in results:
        values = groups.setdefault((row.metric, row.side), [])
        if row.value == row.value:
            values.append(row.value)

    lines = [
        [metric, side, f"{sum(values) / len(values):.4g}" if values else "-", str(len(values))]
        for (metric, side), values in groups.items()
    ]
    table = data_table(["metric", "side", "mean", "pairs"], lines)
    return framed(document("Measured", f"<main>{table}</main>", TABLE_STYLE, [TABLE_SCRIPT]), 130 + 34 * len(lines))


def _height(panels: Sequence[Panel]) -> int:
    """Estimate the height of the page of panels in a notebook, in pixels."""
    beside = 1 if len(panels) == 1 else 2
    heights = []
    for panel in panels:
        sides = panel.sides.values()
        images = [_WIDE * side.size[1] // side.size[0] + 60 for side in sides if isinstance(side, ImageAttribution)]
        ranked = len(panel.answer.ranking) if isinstance(panel.answer, Explanation) else 0
        of_text = 260 + 70 * len(panel.answer.warnings) + 36 * ranked + 8 * sum(len(side.source) for side in sides) // 5
        of_image = min(max(images, default=0), 700)
        heights.append(150 + (max(of_image, of_text) if beside == 1 else of_image + of_text))

    rows = (heights[first : first + beside] for first in range(0, len(heights), beside))
    return 330 + sum(max(row) + 30 for row in rows)
