"""The regions of maps, with boxes, outlines and scores, as annotations of COCO."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.records import JsonObject
from nibt.results.base import as_bytes
from nibt.results.coco import to_coco
from nibt.results.explanation import Explanation
from nibt.results.outputs import unsigned


class Coco(Format):
    """Regions of the maps of explanations."""

    endings = (".coco.json",)
    several: ClassVar = True
    media_type = "application/json"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, Any]) -> bytes:
        explanations = [cast(Explanation, bare(result)) for result in results]
        return as_bytes({"signature": unsigned(request), **to_coco(explanations, drawing.threshold)})

    def request(self, results: Sequence[Result], drawing: Drawing) -> JsonObject:
        return {**super().request(results, drawing), "threshold": drawing.threshold}


PLUGIN = Coco
