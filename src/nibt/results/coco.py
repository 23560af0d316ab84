"""Regions of maps as annotations in the format of COCO (https://cocodataset.org/#format-data).

An image of the file is an image that was explained, a category is a caption, and an annotation is a region of the map
of that image for that caption.
"""

from collections.abc import Sequence
from importlib.metadata import version

from nibt.records import JsonObject
from nibt.results.explanation import Explanation, explanations_of
from nibt.results.map_regions import MapRegion, Ring


def to_coco(explanations: Explanation | Sequence[Explanation], threshold: float = 0.5) -> JsonObject:
    """Return the regions of the maps of explanations in the format of COCO.

    Args:
        explanations: One explanation, or several.
        threshold: The least score of a region, as a share of the largest positive score of its map.

    Returns:
        Plain data for a JSON file. An annotation has a ``bbox`` (left, top, width, height), a ``segmentation`` (one
        polygon along the edges of pixels), its ``area`` in pixels, and the ``score`` of its peak. A hole of a region is
        part of its polygon, connected by a line that is passed in both directions.

    Raises:
        BadOption: The threshold is not above 0 and at most 1.
        BadInput: A value is not an ``Explanation``.

    """
    listed = explanations_of(explanations, "to_coco")
    images: dict[tuple[str, str, tuple[int, int]], int] = {}
    categories: dict[str, int] = {}
    annotations: list[JsonObject] = []
    for explanation in listed:
        key = explanation.source, explanation.image.image_hash, explanation.size
        image = images.setdefault(key, len(images) + 1)
        category = categories.setdefault(explanation.caption, len(categories) + 1)
        annotations += [
            {"id": number, "image_id": image, "category_id": category, **_annotation(region)}
            for number, region in enumerate(explanation.regions(threshold), len(annotations) + 1)
        ]
    return {
        "info": {"description": "Regions of maps", "version": f"nibt {version('nibt')}", "threshold": threshold},
        "licenses": [],
        "images": [
            {"id": number, "file_name": source, "width": size[0], "height": size[1]}
            for (source, _, size), number in images.items()
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()],
    }


def _annotation(region: MapRegion) -> JsonObject:
    return {
        "bbox": list(region.box),
        "area": region.area,
        "segmentation": [[value for corner in _polygon(region.outlines) for value in corner]],
        "iscrowd": 0,
        "score": region.score,
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
