"""Badges of audits, for the page of a repository or a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.io import one_line
from nibt.results.check import VERDICTS
from nibt.results.outputs import unsigned

_COLORS = {"pass": "#2e7d32", "no verdict": "#5f6368", "warn": "#8a6d00", "cannot tell": "#8a6d00", "fail": "#b3261e"}
"""Colors on which white letters have a contrast of at least 4.5."""
_LABEL = "nibt audit"
_LETTER = 7
"""The mean width of a letter of 11 pixels."""


class Badge(Format, name="badge"):
    """A badge with the number of checks of an audit by verdict, in the color of the worst one."""

    endings = (".badge.svg",)
    holds = ("audit",)
    media_type = "image/svg+xml"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        from nibt.report.html.document import template  # when a badge is written

        audit: Any = bare(results[0])
        counts = [(verdict, audit.count(verdict)) for verdict in reversed(VERDICTS)]
        text = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
        data = f"{audit.data.get('pairs')} {audit.questionnaire.noun}"
        about = f"{Path(audit.model['id']).name}, weights {audit.model['weights_hash']}, {data}"
        badge = template("badge.svg", "nibt.evaluation.formats").render(
            label=_LABEL,
            text=text,
            title=one_line(f"{_LABEL} of {about}: {text}"),
            color=_COLORS[audit.verdict],
            widths=[12 + _LETTER * len(part) for part in (_LABEL, text)],
            signature=unsigned(request),
        )
        return badge.encode()
