"""Building of explanations and comparisons, with their warnings, from explained batches."""

import math
from collections.abc import Iterator, Sequence
from typing import cast

from nibt.data.images import ImageInput
from nibt.engine.batches import ExplainedBatch
from nibt.engine.mismatch import mismatches, negligible
from nibt.engine.spec import IMAGE_AND_TEXT, ExplanationSpec
from nibt.errors import Unsupported
from nibt.results.attribution import ImageAttribution, SideAttribution, TextAttribution, image_fields
from nibt.results.explanation import Explanation, is_noise
from nibt.results.records import ExplainedTargetRecord
from nibt.torch_modes import plain_torch

LARGE_GAP = 0.3  # of the change of the score
_FLAT = 1e-7  # scores within a smaller range differ only by rounding


@plain_torch()
def to_explanations(spec: ExplanationSpec, batch: ExplainedBatch) -> list[Explanation]:
    """Return the explanations of a batch whose two sides were explained."""
    values = [side.value().tolist() for side in batch.sides]
    compare = spec.model.seen_from(spec.modalities[0])
    similarities = compare(*(side.trace.embedding for side in batch.sides)).tolist()
    strange = [similarity for similarity in similarities if not math.isfinite(similarity)]
    if strange:
        raise Unsupported(
            f"the model must give finite similarities (got {strange[0]}): check its weights, or load it in float32"
        )
    mixed = spec.modalities == IMAGE_AND_TEXT
    mismatch = list(mismatches(*batch.sides)) if mixed else [""] * len(similarities)
    target, provenance = spec.record["target"], spec.provenance  # hashes the weights, so it is read once per batch
    explanations = []
    for index, pair in enumerate(batch.pairs):
        sides = [_side(pair.items[position], batch, position, index) for position in (0, 1)]
        warnings = (
            *filter(None, [mismatch[index]]),
            *spec.warnings,
            *pair.notes,
            *(  # for two images or two captions, each note names its side
                note if mixed else f"{name}: {note}"
                for name, side in zip(spec.side_names, batch.sides, strict=True)
                for note in side.inputs.notes[index]
            ),
            *_gaps(spec, sides),
            *_flat_maps(spec, sides),
        )
        if mixed and not is_noise(warnings):
            warnings += tuple(negligible(spec, batch.sides[1].trace.embedding[[index]], sides))
        by_side = {
            name: {"name": spec.scores[modality].target.name, "value": value[index]}
            for name, modality, value in zip(spec.side_names, spec.modalities, values, strict=True)
        }
        explanations.append(
            Explanation(
                dict(zip(spec.side_names, sides, strict=True)),
                similarity=similarities[index],
                target=cast(ExplainedTargetRecord, {**target, "value": values[0][index], **by_side}),
                method=spec.record["method"],
                **provenance,
                warnings=warnings,
            )
        )
    return explanations


def _side(item: ImageInput | str, batch: ExplainedBatch, position: int, index: int) -> SideAttribution:
    attributions = batch.attributions[position]
    assert attributions is not None
    attribution = attributions[index].to("cpu")
    if isinstance(item, str):
        return TextAttribution.of(attribution, item)
    region = batch.sides[position].inputs.regions[index]
    return ImageAttribution.of(attribution, region=region, **image_fields(item))


def _gaps(spec: ExplanationSpec, sides: Sequence[SideAttribution]) -> Iterator[str]:
    """Yield a warning for each side whose scores do not add up to the change of the score, as far as they should."""
    for name, side in zip(spec.side_names, sides, strict=True):
        path = side.path
        if path is None:
            continue
        change, total = float(path.at_input - path.at_baseline), float(path.sum)
        if path.missed:
            share = f" ({abs(float(path.gap) / change):.2g} of the change of the score)" if change else ""
            yield (
                f"the completeness gap of the {name} side, {abs(float(path.gap)):.2g}{share}, is above the tolerance "
                f"after {int(path.steps)} steps"
            )
        if path.misses(LARGE_GAP) or (path.quadrature == "late" and path.tolerance is None):
            factor = f", {total / change:.2g} times the change" if change else ""
            yield (
                f"the scores of the {name} side are relative: they add up to {total:+.3g}{factor} of the score "
                f"({change:+.3g}); compare them with each other, or set a tolerance"
            )


def _flat_maps(spec: ExplanationSpec, sides: Sequence[SideAttribution]) -> Iterator[str]:
    """Yield a warning for each map that gives every unit the same score."""
    for name, side in zip(spec.side_names, sides, strict=True):
        scores = [word.score for word in side.words] if isinstance(side, TextAttribution) else side.scores.tolist()
        if len(scores) > 1 and max(scores) - min(scores) <= _FLAT:
            method, score = spec.record["method"]["name"], scores[0]
            removal = spec.methods[side.modality].amounts == "removal"
            scaled = ", without a region to remove," if removal else ""
            yield f"the map of the {name} side is flat: {method}{scaled} gives every unit the score {score:.3g}"
