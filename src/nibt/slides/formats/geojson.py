"""The tiles of slides as GeoJSON, which viewers such as QuPath show over a slide.

The format is RFC 7946, with the properties that QuPath reads. Coordinates are pixels of the slide at full resolution.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.records import JsonObject
from nibt.results.base import as_text
from nibt.results.outputs import unsigned

if TYPE_CHECKING:  # files of other results do not need it
    from torch import Tensor

    from nibt.slides.explanation import SlideExplanation, SlideTile

_MEASURED = ("content", "similarity", "value", "sum", "baseline", "gap")


class GeoJson(Format, name="geojson"):
    """The tiles of a slide with their numbers, for viewers such as QuPath."""

    endings = (".geojson",)
    holds = ("slide",)
    media_type = "application/geo+json"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        result: Any = bare(results[0])
        features = [_feature(result, *pair) for pair in zip(result.tiles, result.maps, strict=True)]
        data = {"signature": unsigned(request), "type": "FeatureCollection", "features": features}
        return as_text(data).encode()


def _feature(result: "SlideExplanation", tile: "SlideTile", scores: "Tensor") -> JsonObject:
    """Return the square of a tile with its numbers, and the ends of its scores (row, column)."""
    left, top, across, down = result.box(tile.row, tile.column)
    right = min(left + across, result.size[0])
    bottom = min(top + down, result.size[1])
    numbers = {name: number for name, number in result.tile_row(tile).items() if name in _MEASURED and isfinite(number)}
    numbers |= {"highest score": float(scores.max()), "lowest score": float(scores.min())}
    return {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]],
        },
        "properties": {
            "objectType": "tile",
            "name": f"{result.caption}, tile {tile.row}.{tile.column}",
            "measurements": numbers,
        },
    }
