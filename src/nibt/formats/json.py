"""All numbers of results as JSON that ``load`` reads, and the regions of maps as annotations of COCO.

Of several results, JSON has a list, whose items ``from_json`` reads. The format of COCO is
https://cocodataset.org/#format-data: an image of the file is an image that was explained, a category is a caption, and
an annotation is a region of the map of that image for that caption.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, cast

from nibt.formats.base import Drawing, Format, Result, bare
from nibt.records import JsonObject
from nibt.results.base import as_text, require_result
from nibt.results.explanation import Explanation
from nibt.results.map_regions import Ring, check_threshold
from nibt.results.outputs import unsigned


class Json(Format, name="json"):
    """All numbers, as JSON that ``load`` reads. Several results are a list; read each item with ``from_json``."""

    endings = (".json",)
    holds = (
        "explanation",
        "comparison",
        "regions",
        "answer",
        "decomposition",
        "slide",
        "audit",
        "roar",
        "parts",
        "word_parts",
    )
    several: ClassVar = True
    media_type = "application/json"

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        data = [bare(result).to_json() for result in results]
        data[0] = {"signature": unsigned(request), **data[0]}
        return as_text(data[0] if len(data) == 1 else data).encode()


class Coco(Format, name="coco"):
    """The regions of maps, with boxes, outlines and scores, as annotations of COCO.

    The format is https://cocodataset.org/#format-data. An image of the file is an image that was explained, a category
    is a caption, and an annotation is a region of the map of that image for that caption. A map that is noise has no
    annotation.
    """

    endings = (".coco.json",)
    several: ClassVar = True
    media_type = "application/json"
    draws = ("threshold",)

    def encode(self, results: Sequence[Result], path: Path, drawing: Drawing, request: Mapping[str, object]) -> bytes:
        explanations = [cast(Explanation, bare(result)) for result in results]
        return as_text({"signature": unsigned(request), **to_coco(explanations, drawing.threshold)}).encode()

    def request(self, results: Sequence[Result], drawing: Drawing) -> JsonObject:
        return {**super().request(results, drawing), "threshold": drawing.threshold}


def to_coco(explanations: Explanation | Sequence[Explanation], threshold: float = 0.5) -> JsonObject:
    """Return the regions of the maps of explanations in the format of COCO.

    Args:
        explanations: One explanation, or several.
        threshold: The least score of a region, as a share of the largest positive score of its map.

    Returns:
        Plain data for a JSON file. An annotation has a ``bbox`` (left, top, width, height), a ``segmentation`` (one
        polygon along the edges of pixels), its ``area`` in pixels, and the ``score`` of its peak. A hole of a region is
        part of its polygon, connected by a line that is passed in both directions. A map that is noise has no
        annotation. ``info`` has the gravest note of each map, such as that the caption does not match the image.

    Raises:
        BadOption: The threshold is not above 0 and at most 1.
        BadInput: A value is not an ``Explanation``.
    """
    threshold = check_threshold(threshold)
    listed = list(explanations) if isinstance(explanations, Iterable) else [explanations]
    for explanation in listed:
        require_result(explanation, "to_coco", Explanation)

    # an image that was explained for several captions is listed once, and so is a caption of several images
    images: dict[tuple[str, str, tuple[int, int]], int] = {}
    categories: dict[str, int] = {}
    annotations: list[JsonObject] = []
    notes: list[JsonObject] = []
    for explanation in listed:
        key = explanation.source, explanation.image.image_hash, explanation.size
        image = images.setdefault(key, len(images) + 1)
        category = categories.setdefault(explanation.caption, len(categories) + 1)
        if explanation.mismatch:
            notes.append({"image_id": image, "category_id": category, "text": explanation.mismatch})
        if explanation.is_noise("image"):
            continue

        annotations += [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": list(region.box),
                "area": region.area,
                "segmentation": [[value for corner in _polygon(region.outlines) for value in corner]],
                "iscrowd": 0,
                "score": region.score,
            }
            for number, region in enumerate(explanation.regions(threshold), len(annotations) + 1)
        ]

    info = {"description": "Regions of maps", "version": f"nibt {version('nibt')}", "threshold": threshold}
    return {
        "info": {**info, "notes": notes},
        "licenses": [],
        "images": [
            {"id": number, "file_name": source, "width": size[0], "height": size[1]}
            for (source, _, size), number in images.items()
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()],
    }


def _polygon(outlines: Sequence[Ring]) -> Ring:
    """Return one polygon of an outline and its holes.

    The line between the outline and a hole is passed twice, so that it encloses nothing.

    Examples:
        >>> _polygon([((0, 0), (3, 0), (3, 3), (0, 3)), ((1, 1), (1, 2), (2, 2), (2, 1))])[4:]
        ((0, 0), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1), (0, 0))
    """
    outer, *holes = outlines
    return (*outer, *(corner for hole in holes for corner in (outer[0], *hole, hole[0], outer[0])))
