"""All numbers of results, as JSON that ``load`` reads; of several, a list, whose items ``from_json`` reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.results.base import as_bytes
from nibt.results.outputs import unsigned


class Json(Format):
    """The JSON form of results."""

    endings = (".json",)
    holds = ("explanation", "comparison", "regions", "answer", "decomposition", "audit", "roar")
    several: ClassVar = True
    media_type = "application/json"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        data = [bare(result).to_json() for result in results]
        data[0] = {"signature": unsigned(request), **data[0]}
        return as_bytes(data[0] if len(data) == 1 else data)
