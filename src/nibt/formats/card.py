"""A section for the model card of an audited model, in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.report.certificate import certificate, span
from nibt.report.html.document import template
from nibt.results.audit import Audit
from nibt.results.outputs import unsigned


class Card(Format):
    """Sections of model cards: what an audit found, in plain words."""

    endings = (".card.md",)
    holds = ("audit",)
    media_type = "text/markdown; charset=utf-8"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        audit = cast(Audit, bare(results[0]))
        card = template("card.md", "nibt.formats").render(
            audit=audit, certified=certificate(audit), span=span, signature=unsigned(request)
        )
        return card.encode()
