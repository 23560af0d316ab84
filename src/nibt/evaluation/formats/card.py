"""Sections of model cards, in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.results.outputs import unsigned


class Card(Format, name="card"):
    """A section for the model card of an audited model, in Markdown."""

    endings = (".card.md",)
    holds = ("audit",)
    media_type = "text/markdown; charset=utf-8"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        from nibt.report.certificate import certificate, span  # when a card is written
        from nibt.report.html.document import template

        audit: Any = bare(results[0])
        card = template("card.md", "nibt.evaluation.formats").render(
            audit=audit, certified=certificate(audit), span=span, signature=unsigned(request)
        )
        return card.encode()
