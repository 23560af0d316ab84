"""The explanation spec: a request whose defaults are resolved once, before the first pair is explained.

The option ``layer="auto"`` is resolved here by deletion on a sample of pairs.

A pair has two sides of one modality each. Methods and targets are resolved per modality, so two images share one method
and one target.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.metadata import version
from typing import Any, cast

from nibt.core.side import Side, mean_states
from nibt.data.images import ImageInput, read_image, sample_captions
from nibt.data.pair import Pair, image_text_pairs
from nibt.data.units import cells_of
from nibt.engine.targets import IMAGE_AND_TEXT, Contrast, Modalities, resolve_targets
from nibt.errors import BadInput, BadOption
from nibt.io import file_digests
from nibt.methods._path import along_path
from nibt.methods.base import Method
from nibt.models.base import Model, Tower
from nibt.options import Keywords, Seed, parsed
from nibt.registry import MethodSpec, find
from nibt.results.records import MethodRecord, ProvenanceRecord, RequestRecord
from nibt.targets.base import Score
from nibt.torch_modes import plain_torch
from nibt.types import Modality

_PACKAGES = ("nibt", "torch", "transformers", "open_clip_torch", "timm", "pillow")


@dataclass(frozen=True)
class ExplanationSpec:
    """A fully resolved explanation request: what is computed for every pair."""

    model: Model
    methods: dict[Modality, Method]
    scores: dict[Modality, Score]  # without the embeddings of a pair
    record: RequestRecord
    warnings: tuple[str, ...] = ()
    modalities: Modalities = IMAGE_AND_TEXT
    memory: float | None = None  # MB for hidden states that go through the model together

    side_names: tuple[str, ...] = IMAGE_AND_TEXT  # first and second if the modalities are the same
    against: ImageInput | str | None = None
    """The image or caption that the other side is compared with, if it is explained, too: by its cosine."""
    origin: ImageInput | None = None  # the image at which the paths of images start

    @property
    def provenance(self) -> ProvenanceRecord:
        """The model, and the versions of packages."""
        return {"model": self.model.record(), "versions": dict(versions())}


@cache
def versions() -> dict[str, str]:
    """Return the versions of packages, cached because each look-up searches all installed packages."""
    return {name: version(name) for name in _PACKAGES}


@plain_torch()
def resolve(
    model: Model,
    method: MethodSpec,
    target: str | None = None,
    contrast: Contrast | None = None,
    *,
    modalities: Modalities = IMAGE_AND_TEXT,
    sample: Sequence[Pair] | None = None,
    seed: int | None = None,
    memory: float | None = None,
) -> ExplanationSpec:
    """Resolve the defaults of a request, so that every pair is explained in the same way."""
    contrast = contrast or Contrast()
    compares = contrast.against or contrast.against_images
    if target is None:
        target = "ensemble" if contrast.templates else "difference" if compares else "cosine"
    scores, target_warnings = resolve_targets(model, target, contrast, modalities)
    method_class, options, extra = class_and_options(method, seed)
    if modalities[0] == modalities[1]:
        _check_same_modality(modalities[0], options)
    unserved: list[Modality] = []
    if str(options.get("baseline")).startswith("mean"):
        options, unserved = _mean_states_by_side(model, method_class, options, modalities)
    automatic = any(name.endswith("layer") and isinstance(v, str) and v == "auto" for name, v in options.items())
    if sample is not None and not automatic:
        raise BadOption("sample has no effect without layer='auto': leave it out, or set layer")
    if automatic and "against" in [value for name, value in options.items() if name.endswith("baseline")]:
        raise BadOption("layer must not be auto with the baseline against: give a layer, or leave it out")
    if automatic:
        options, tried = _resolve_auto(model, method_class, method.variant, options, scores, sample)
        extra |= tried
    of_two = method_class.task_defaults.get("images") if contrast.against_images and method.variant == "default" else {}
    recommended = {**model.defaults, **of_two} if of_two and not model.image.reads_units else model.defaults
    methods: dict[Modality, Method] = {
        modality: method_class.configured(model.tower(modality), method.variant, options, recommended)
        if method.instance is None
        else _checked(method.instance, model.tower(modality))
        for modality in dict.fromkeys(modalities)
    }
    compared = {name: list(value) for name, value in vars(scores[modalities[0]].target).items()}
    compared |= contrast.record() if compares else {}
    against = origin = None
    to_one = find("targets", target).others == "one"
    if starts := [side for side in methods if getattr(methods[side], "baseline", "") == "against"]:
        if len(methods) < 2 or starts != ["image"] or not to_one or len(contrast.against_images) != 1:
            raise BadOption(
                "the baseline against is the state of one other image, with the target difference: give that image in "
                "against_images (--against) of explain or batch, and the baseline as image_baseline"
            )
        origin, target_warnings = contrast.against_images[0], {}
    elif contrast.explained and len(target_warnings) == 1 and to_one:
        against, target_warnings = (*contrast.against, *contrast.against_images)[0], {}
    notes = tuple(_keeps_baseline(side, options, methods[side]) for side in unserved)
    return ExplanationSpec(
        model,
        methods,
        scores,
        {"method": method_record(method, seed, methods, extra), "target": {"name": target, "options": compared}},
        (*model.notes, *target_warnings.values(), *notes),
        modalities,
        memory,
        ("first", "second") if modalities[0] == modalities[1] else (*modalities, *["against"] * (against is not None)),
        against,
        origin,
    )


def _checked(method: Method, tower: Tower) -> Method:
    """Return a method that was given as an object, if its options suit a tower."""
    method.check(tower)
    if method.views > 1 and tower.modality == "text":
        method = replace(method, views=1)
    elif method.views > 1 and not tower.shiftable:
        raise BadOption(
            f"views must be 1 for a {type(tower).__name__}, which takes patches instead of an image (got "
            f"{method.views}): leave views out"
        )
    for layer in method.layers:
        tower.check_layer(layer)
    return method


def _check_same_modality(modality: Modality, options: Mapping[str, Any]) -> None:
    """Check that no option needs an image and a caption."""
    two, foreign_prefix = ("two images", "text_") if modality == "image" else ("two captions", "image_")
    for name, value in options.items():
        if name.startswith(foreign_prefix):
            raise BadOption(f"{name} is an option of a side that {two} do not have: leave it out")
        if name in ("views", "amounts") and modality == "text":
            raise BadOption(f"{name} can only be used with images (got two captions): leave {name} out")
        if name.endswith("layer") and value == "auto":
            raise BadOption(
                f"{name} cannot be auto for {two}, since layers are chosen on images with captions: give a layer, or "
                "leave it out"
            )


def method_record(
    method: MethodSpec, seed: int | None, methods: Mapping[Modality, Method], extra: Keywords
) -> MethodRecord:
    """Return the method with the options of each side, as plain data."""
    resolved = {side: side_method.options() for side, side_method in methods.items()}
    record = {
        "name": method.name,
        "variant": method.variant,
        "seed": parsed("seed", seed, Seed | None),
        "signed": next(iter(methods.values())).signed,
        **resolved,
        **extra,
    }
    texts = {value for side in resolved.values() for value in side.values() if isinstance(value, str)}
    named = [text for text in texts if not text.isidentifier() or os.path.isfile(text)]  # may name a file
    digests = file_digests(named) if named else {}
    return cast(MethodRecord, {**record, "files": digests} if digests else record)


def class_and_options(method: MethodSpec, seed: int | None) -> tuple[type[Method], Keywords, Keywords]:
    """Return the class of the method, its options with the seed, and other entries of its record."""
    others = {name: value for name, value in method.options.items() if name != "along_path"}
    along = parsed("along_path", method.options.get("along_path", False), bool)
    if method.instance is not None:
        return type(method.instance), {}, {}
    if unused := next((name for name in others if {f"image_{name}", f"text_{name}"} <= others.keys()), None):
        raise BadOption(f"{unused} has no effect beside image_{unused} and text_{unused}: leave it out, or one of them")
    method_class, extra = find("methods", method.name), {}
    if along:
        method_class, extra = along_path(method.name), {"along_path": True}
    if seed is not None and method_class.draws(others):
        others["seed"] = seed
    return method_class, others, extra


def check_options(method: MethodSpec) -> None:
    """Check a method and its options as far as no model is needed, before one is loaded."""
    method_class, options, _ = class_and_options(method, None)
    if method.instance is None:
        method_class.check_options(method.variant, options)


def baseline_by_side(options: Mapping[str, Any], sides: Iterable[Modality]) -> Keywords:
    """Return the options with the baseline of both sides set for each side, such as ``image_baseline``.

    A file of mean states that lacks a side is then an error. Use this for results without warnings, which cannot report
    that a side keeps its default.
    """
    baseline = options.get("baseline")
    named = {f"{side}_baseline": baseline for side in sides if options.get(f"{side}_baseline") is None}
    if baseline is None or not named:
        return dict(options)
    both = {**options, **named}
    return {
        name: both[name] for name in both if name != "baseline" or not {"image_baseline", "text_baseline"} <= {*both}
    }


def _mean_states_by_side(
    model: Model, method_class: type[Method], options: Keywords, modalities: Modalities
) -> tuple[Keywords, list[Modality]]:
    """Restrict a file of mean states, named for both sides, to the sides that it has.

    If it has neither side, the options stay as they are, and the method raises an error.
    """
    baseline: Any = options.get("baseline")
    names = {field.name for field in fields(method_class)}
    is_file = isinstance(baseline, str) and baseline.partition(":")[0] == "mean"
    if not is_file or modalities[0] == modalities[1] or not {"layer", "baseline"} <= names:
        return options, []
    open_sides: list[Modality] = [side for side in modalities if options.get(f"{side}_baseline") is None]
    states = mean_states(model, baseline.partition(":")[2])
    unserved: list[Modality] = [side for side in open_sides if not states.layers(side)]
    if len(unserved) in (0, len(open_sides)):
        return options, []
    others = {name: value for name, value in options.items() if name != "baseline"}
    return others | {f"{side}_baseline": baseline for side in open_sides if side not in unserved}, unserved


def _keeps_baseline(side: Modality, options: Keywords, method: Method) -> str:
    """Return the warning about a side that a file of mean states lacks."""
    opposite, lacking = ("text", "images") if side == "image" else ("image", "captions")
    baseline, kept = options[f"{opposite}_baseline"], method.options()["baseline"]
    return (
        f"{baseline} has mean states of the {opposite} side only, since it was computed without {lacking}: the {side} "
        f"side keeps its baseline {kept!r}"
    )


_FEWEST_CELLS, _MOST_CELLS = 9, 4096  # of the feature maps that are tried


def shipped_sample() -> list[Pair]:
    """Return the photographs that ship with the package, with their captions."""
    captions = {name: caption for name, caption in sample_captions().items() if name != "scene"}  # which is drawn
    return [Pair(read_image(f"sample:{name}"), caption) for name, caption in captions.items()]


def _resolve_auto(
    model: Model,
    method_class: type[Method],
    variant: str,
    options: Keywords,
    scores: Mapping[Modality, Score],
    sample: Sequence[Pair] | None,
) -> tuple[Keywords, Keywords]:
    """Replace each "auto" in the options by the layer with the smallest deletion area."""
    pairs = shipped_sample() if sample is None else image_text_pairs(sample, "sample")
    if not pairs:
        raise BadInput("sample must have at least one pair (got none): leave it out for the samples of the package")
    resolved = {name: value for name, value in options.items() if name != "layer" or str(value) != "auto"}
    areas_by_side: Keywords = {}
    for tower in (model.image, model.text):
        name = f"{tower.modality}_layer"
        if options.get(name, options.get("layer")) != "auto":
            continue
        areas: dict[int, float] = {}
        others = {key: value for key, value in resolved.items() if key != name}
        defaults: Any = method_class.configured(tower, variant, others, model.defaults)
        for layer in sorted({*_candidates(tower, pairs), *defaults.layer}):
            method = method_class.configured(tower, variant, {**others, name: layer}, model.defaults)
            areas[layer] = _deletion_area(model, method, tower, scores[tower.modality], pairs)
        resolved[name] = min(areas, key=lambda layer: areas[layer])
        areas_by_side[tower.modality] = {str(layer): area for layer, area in areas.items()}
    source = "the images that ship with nibt" if sample is None else f"{len(pairs)} pairs of the argument sample"
    return resolved, {"auto": {"sample": source, "metric": "deletion", "areas": areas_by_side}}


def _candidates(tower: Tower, pairs: Sequence[Pair]) -> list[int]:
    """Return the layers to try beside the default: every layer, or the feature maps with a suitable number of cells."""
    if tower.positional:
        return list(range(tower.depth))
    trace = tower.trace(tower.prepare([pairs[0].image]))
    counts = [cells_of(trace.cut(layer).units).count for layer in range(tower.depth + 1)]
    return [layer for layer, count in enumerate(counts) if _FEWEST_CELLS <= count <= _MOST_CELLS]


def _deletion_area(model: Model, method: Method, tower: Tower, score: Score, pairs: Sequence[Pair]) -> float:
    """Return the area under the deletion curve, averaged over pairs."""
    deletion = find("metrics", "deletion")()
    areas = []
    for pair in pairs:
        image = model.image.trace(model.image.prepare([pair.image]))
        text = model.text.trace(model.text.prepare([pair.caption]))
        traced, partner = (image, text) if tower.modality == "image" else (text, image)
        side = Side(model, traced, replace(score, other=partner.embedding))
        areas.append(float(deletion.of_map(side, method(side))))
    return sum(areas) / len(areas)
