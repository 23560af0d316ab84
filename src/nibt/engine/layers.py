"""The option ``layer="auto"``, which chooses a layer for each side by deletion on a sample of pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nibt.core.side import Side
from nibt.data.images import read_image, sample_captions
from nibt.data.pair import Pair, image_text_pairs
from nibt.data.units import Grid
from nibt.methods.base import Method, MethodSpec
from nibt.metrics.base import MetricInput
from nibt.models.base import Model, Tower
from nibt.options import Keywords
from nibt.registry import find
from nibt.targets.base import Score
from nibt.types import Modality

_FEWEST_CELLS, _MOST_CELLS = 9, 4096  # of the feature maps that are tried


def shipped_sample() -> list[Pair]:
    """Return the photographs that ship with the package, with their captions."""
    captions = {name: caption for name, caption in sample_captions().items() if name != "scene"}  # which is drawn
    return [Pair(read_image(f"sample:{name}"), caption) for name, caption in captions.items()]


def resolve_auto(
    model: Model,
    method_class: type[Method],
    spec: MethodSpec,
    scores: Mapping[Modality, Score],
    sample: Sequence[Pair] | None,
) -> tuple[Keywords, Keywords]:
    """Replace each "auto" in the options by the layer with the smallest deletion area."""
    pairs = shipped_sample() if sample is None else image_text_pairs(sample, "sample")
    options = spec.options
    resolved = {name: value for name, value in options.items() if name != "layer" or value != "auto"}
    areas_by_side: Keywords = {}
    for tower in (model.image, model.text):
        name = f"{tower.modality}_layer"
        if options.get(name, options.get("layer")) != "auto":
            continue
        areas = {
            layer: _deletion_area(
                model,
                method_class.configured(tower, spec.variant, {**resolved, name: layer}, model.defaults),
                tower,
                scores[tower.modality],
                pairs,
            )
            for layer in _candidates(tower, pairs)
        }
        resolved[name] = min(areas, key=lambda layer: areas[layer])
        areas_by_side[tower.modality] = {str(layer): area for layer, area in areas.items()}
    source = "the images that ship with nibt" if sample is None else f"{len(pairs)} pairs of the argument sample"
    return resolved, {"auto": {"sample": source, "metric": "deletion", "areas": areas_by_side}}


def _candidates(tower: Tower, pairs: Sequence[Pair]) -> list[int]:
    """Return the layers to try: every layer, or the feature maps with a suitable number of cells."""
    if tower.positional:
        return list(range(tower.depth))
    trace = tower.trace(tower.prepare([pairs[0].image]))
    units = {layer: trace.cut(layer).units for layer in range(tower.depth + 1)}
    return [
        layer for layer, grid in units.items() if isinstance(grid, Grid) and _FEWEST_CELLS <= grid.count <= _MOST_CELLS
    ]


def _deletion_area(model: Model, method: Method, tower: Tower, score: Score, pairs: Sequence[Pair]) -> float:
    """Return the area under the deletion curve, averaged over pairs."""
    deletion = find("metrics", "deletion")()
    areas = []
    for pair in pairs:
        image = model.image.trace(model.image.prepare([pair.image]))
        text = model.text.trace(model.text.prepare([pair.caption]))
        traced, partner = (image, text) if tower.modality == "image" else (text, image)
        side = Side(model, traced, replace(score, other=partner.embedding))
        areas.append(float(deletion(MetricInput(side, method(side)))))
    return sum(areas) / len(areas)
