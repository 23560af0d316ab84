"""A section for the model card of an audited model, in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.report.certificate import certificate
from nibt.results.audit import Audit
from nibt.results.outputs import unsigned


class Card(Format):
    """Sections of model cards: what an audit found, in plain words."""

    endings = (".card.md",)
    holds = ("audit",)
    media_type = "text/markdown; charset=utf-8"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        audit = cast(Audit, bare(results[0]))
        certified = certificate(audit)
        lines = ["## Explanations of this model", "", certified.checked, ""]
        for heading, sentences in certified.sections.items():
            lines += [f"**{heading}**", "", *(f"- {sentence}" for sentence in sentences), ""]
        lines += ["| check | method | side | mean [95 % interval] | verdict |", "|---|---|---|---|---|"]
        lines += [
            f"| {check.about} | {check.method} | {check.side} | {check.value:.3f} [{check.low:.3f}, {check.high:.3f}] "
            f"| {check.verdict} |"
            for check in audit.checks
        ]
        if certified.command:
            lines += ["", "It was measured with:", "", "```bash", certified.command, "```"]
        lines += ["", f"nibt {audit.versions['nibt']}, torch {audit.versions['torch']}.", ""]
        return "\n".join([*lines, f"<!-- {unsigned(request)} -->", ""]).encode()


PLUGIN = Card
