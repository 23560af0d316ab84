"""``layer="auto"``: one layer for each side, chosen before anything is explained, by deletion on a named sample."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

from nibt.core.side import Side
from nibt.data.images import read_image
from nibt.data.pair import Pair
from nibt.data.units import Grid
from nibt.methods.base import Method
from nibt.metrics.base import MetricInput
from nibt.models.base import Model, Tower, Trace
from nibt.registry import find
from nibt.types import Modality

_FEWEST_CELLS = 9
Score = Callable[..., Any]


def shipped_sample() -> list[Pair]:
    """The pictures that ship with the package, with their captions."""
    captions = json.loads((files("nibt") / "samples" / "captions.json").read_text(encoding="utf-8"))
    return [Pair(read_image(f"sample:{name}"), caption) for name, caption in captions.items()]


def resolve_auto(
    model: Model,
    kind: type[Method],
    variant: str,
    options: Mapping[str, Any],
    scores: Mapping[Modality, Score],
    sample: Sequence[Pair] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options with a plain layer for each side that said auto, and the record of how it was chosen."""
    pairs = shipped_sample() if sample is None else list(sample)
    resolved = {name: value for name, value in options.items() if name != "layer" or value != "auto"}
    tried: dict[str, Any] = {}
    for tower in (model.image, model.text):
        name = f"{tower.modality}_layer"
        if options.get(name, options.get("layer")) != "auto":
            continue
        areas = {
            layer: _area(model, kind, variant, resolved | {name: layer}, scores, tower, pairs)
            for layer in _candidates(tower, pairs)
        }
        resolved[name] = min(areas, key=lambda layer: areas[layer])
        tried[tower.modality] = {str(layer): area for layer, area in areas.items()}
    named = "the pictures that ship with nibt" if sample is None else f"{len(pairs)} pairs of the caller's"
    return resolved, {"auto": {"sample": named, "metric": "deletion", "areas": tried}}


def _candidates(tower: Tower, pairs: Sequence[Pair]) -> list[int]:
    """Every layer that is left to replay; of feature maps, those neither huge nor next to nothing."""
    if tower.positional:
        return list(range(tower.depth))
    trace = tower.trace(tower.prepare([pairs[0].picture]))
    counts = {layer: trace.cut(layer).units for layer in range(tower.depth + 1)}
    return [layer for layer, grid in counts.items() if isinstance(grid, Grid) and _FEWEST_CELLS <= grid.count <= 4096]


def _area(
    model: Model,
    kind: type[Method],
    variant: str,
    options: dict[str, Any],
    scores: Mapping[Modality, Score],
    tower: Tower,
    pairs: Sequence[Pair],
) -> float:
    """The mean area under the deletion curve, over the sample, of one layer."""
    method = kind.configured(tower, variant, options, model.defaults)
    deletion = find("metrics", "deletion")()
    areas = []
    for pair in pairs:
        image = model.image.trace(model.image.prepare([pair.picture]))
        text = model.text.trace(model.text.prepare([pair.caption]))
        here, there = (image, text) if tower.modality == "image" else (text, image)
        side = Side(model, here, _against(scores[tower.modality], there))
        areas.append(float(deletion(MetricInput(side, method(side)))))
    return sum(areas) / len(areas)


def _against(score: Score, there: Trace) -> Score:
    return partial(score, there=there.embedding)
