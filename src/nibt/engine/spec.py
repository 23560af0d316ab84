"""The explanation spec: a request whose defaults are resolved once, before the first pair is explained.

A pair has two sides of one modality each. Methods and targets are resolved per modality, so two images share one method
and one target.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.metadata import version
from typing import Any, cast

from nibt.data.images import ImageInput
from nibt.engine.targets import (
    IMAGE_AND_TEXT,
    Contrast,
    Modalities,
    check_target_name,
    plain_target,
    plain_target_warning,
    resolve_targets,
)
from nibt.errors import BadOption
from nibt.io import file_digests
from nibt.methods._path import along_path
from nibt.methods.base import Method
from nibt.models.base import Model, Tower
from nibt.options import BatchSize, Keywords, Megabytes, Seed, complete, parsed
from nibt.registry import SERVED_METHOD, MethodSpec, find
from nibt.results.records import MethodRecord, ProvenanceRecord, RequestRecord
from nibt.targets.base import Score
from nibt.torch_modes import plain_torch
from nibt.types import Modality

_PACKAGES = ("nibt", "torch", "transformers", "open_clip_torch", "timm", "pillow")


@dataclass(frozen=True)
class Request:
    """What is asked of pairs. It is checked once, before a model is loaded.

    Attributes:
        method: The method.
        target: The name of the target; None means ``ensemble`` with templates, ``difference`` if there is something to
            compare with, or ``cosine``.
        contrast: What the target compares with.
        seed: A seed for methods that draw at random.
        batch_size: The largest number of pairs that go through the model together.
        memory_mb: The memory in MB for hidden states that go through the model together; None means little memory
            compared with that of the model.
    """

    method: MethodSpec
    target: str | None = None
    contrast: Contrast = Contrast()  # noqa: RUF009 - it is frozen
    seed: Seed | None = field(default=None, kw_only=True)
    batch_size: BatchSize = field(default=8, kw_only=True)
    memory_mb: Megabytes | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_target_name(self.target)
        complete(self)

    @property
    def target_name(self) -> str:
        """The name of the target, or of the default."""
        if self.target is not None:
            return self.target
        if self.contrast.templates:
            return "ensemble"
        if self.contrast.against or self.contrast.against_images:
            return "difference"
        return "cosine"


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
    request: Request,
    modalities: Modalities = IMAGE_AND_TEXT,
) -> ExplanationSpec:
    """Resolve the defaults of a request, so that every pair is explained in the same way."""
    method = request.method

    # only the default is replaced: a method that is named and does not fit the model is an error
    is_replaced = model.is_fused and method == MethodSpec()
    if is_replaced:
        method = MethodSpec(SERVED_METHOD)

    # models without a cosine have another similarity as their target, such as the logit of a class
    contrast = request.contrast
    target = request.target_name
    if target == "cosine":
        target = plain_target(model)
    scores = resolve_targets(model, target, contrast, modalities)

    method_class, options, record_entries = class_and_options(method, request.seed)
    if modalities[0] == modalities[1]:
        _check_same_modality(modalities[0], options)
    options, sides_without_means = _mean_states_by_side(model, method_class, options, modalities)
    methods = _methods_by_modality(model, method, method_class, options, contrast, modalities)

    # where only one side compares two items, the other side shows the second of them: by the path that starts there,
    # or by a map of its own
    target_class = find("targets", target)
    plain_sides = [side for side, score in scores.items() if score.target.name != target]
    compares_with_one = target_class.others == "one"
    origin = _path_origin(methods, contrast, compares_with_one)
    against = None
    if origin is None and contrast.explained and compares_with_one and len(plain_sides) == 1:
        against = (*contrast.against, *contrast.against_images)[0]

    warnings = [*model.notes]
    if is_replaced:
        warnings.append(
            f"{MethodSpec.name} needs the layers of two encoders, and this model reads the image and the text in one "
            f"network: {SERVED_METHOD} explains it"
        )
    is_compared = origin is not None or against is not None  # the side shows it in another way
    is_probability_of_class = model.is_classifier and target == "softmax"  # a note says it of the class
    if not (is_compared or is_probability_of_class):
        warnings += [plain_target_warning(plain_target(model), target_class, side) for side in plain_sides]
    warnings += [_keeps_baseline(side, options, methods[side]) for side in sides_without_means]

    target_options = {name: list(value) for name, value in vars(scores[modalities[0]].target).items()}
    if contrast.against or contrast.against_images:
        target_options |= contrast.record()
    return ExplanationSpec(
        model=model,
        methods=methods,
        scores=scores,
        record={
            "method": method_record(method, request.seed, methods, record_entries),
            "target": {"name": target, "options": target_options},
        },
        warnings=tuple(warnings),
        modalities=modalities,
        memory=request.memory_mb,
        side_names=_side_names(modalities, has_against=against is not None),
        against=against,
        origin=origin,
    )


def _side_names(modalities: Modalities, has_against: bool) -> tuple[str, ...]:
    """Return the names of the sides of results."""
    if modalities[0] == modalities[1]:
        return ("first", "second")
    return (*modalities, "against") if has_against else modalities


def _methods_by_modality(
    model: Model,
    method: MethodSpec,
    method_class: type[Method],
    options: Keywords,
    contrast: Contrast,
    modalities: Modalities,
) -> dict[Modality, Method]:
    """Return the method of each modality, with all options resolved."""
    towers: dict[Modality, Tower] = {modality: model.tower(modality) for modality in modalities}
    if method.instance is not None:
        return {modality: _checked(method.instance, tower) for modality, tower in towers.items()}

    recommended = model.defaults
    if contrast.against_images and method.variant == "default" and not model.image.reads_units:
        recommended = {**recommended, **method_class.task_defaults.get("images", {})}
    return {
        modality: method_class.configured(tower, method.variant, options, recommended)
        for modality, tower in towers.items()
    }


def _path_origin(methods: Mapping[Modality, Method], contrast: Contrast, compares_with_one: bool) -> ImageInput | None:
    """Return the image at which the paths of images start, if the baseline is ``against``."""
    starts = [side for side, method in methods.items() if getattr(method, "baseline", "") == "against"]
    if not starts:
        return None

    is_of_image_alone = starts == ["image"] and len(methods) == 2
    if not is_of_image_alone or not compares_with_one or len(contrast.against_images) != 1:
        raise BadOption(
            "the baseline against is the state of one other image, with the target difference: give that image in "
            "against_images (--against) of explain or batch, and the baseline as image_baseline"
        )
    return contrast.against_images[0]


def _checked(method: Method, tower: Tower) -> Method:
    """Return a method that was given as an object, if its options suit a tower."""
    method.check(tower)
    if method.views > 1 and tower.modality == "text":  # one object is for both sides, and captions have no views
        method = replace(method, views=1)
    elif method.views > 1 and not tower.shiftable:
        raise BadOption(
            f"views must be 1 for this {tower.called}, which takes patches instead of an image (got "
            f"{method.views}): leave views out"
        )

    for layer in method.layers:
        tower.check_layer(layer)
    return method


def _check_same_modality(modality: Modality, options: Mapping[str, object]) -> None:
    """Check that no option needs an image and a caption."""
    inputs = "two images" if modality == "image" else "two captions"
    foreign_prefix = "text_" if modality == "image" else "image_"

    for name in options:
        if name.startswith(foreign_prefix):
            raise BadOption(f"{name} is an option of a side that {inputs} do not have: leave it out")
        if name in ("views", "amounts") and modality == "text":
            raise BadOption(f"{name} can only be used with images (got two captions): leave {name} out")


def method_record(
    method: MethodSpec, seed: int | None, methods: Mapping[Modality, Method], record_entries: Keywords
) -> MethodRecord:
    """Return the method with the options of each side, as plain data."""
    options_by_side = {side: side_method.options() for side, side_method in methods.items()}
    record = {
        "name": method.name,
        "variant": method.variant,
        "seed": parsed("seed", seed, Seed | None),
        "signed": next(iter(methods.values())).signed,
        **options_by_side,
        **record_entries,
    }

    # the digests of files that options name, such as mean states: a result says what it was computed from.
    # An identifier, such as the value ``blank``, names a file only if there is one
    texts = {value for options in options_by_side.values() for value in options.values() if isinstance(value, str)}
    file_names = [text for text in texts if not text.isidentifier() or os.path.isfile(text)]
    digests = file_digests(file_names) if file_names else {}
    if digests:
        record["files"] = digests
    return cast(MethodRecord, record)


def class_and_options(method: MethodSpec, seed: int | None) -> tuple[type[Method], Keywords, Keywords]:
    """Return the class of the method, its options with the seed, and other entries of its record."""
    options = dict(method.options)
    along = parsed("along_path", options.pop("along_path", False), bool)
    if method.instance is not None:
        return type(method.instance), {}, {}

    for name in options:
        if f"image_{name}" in options and f"text_{name}" in options:
            raise BadOption(f"{name} has no effect beside image_{name} and text_{name}: leave it out, or one of them")

    method_class = along_path(method.name) if along else find("methods", method.name)
    if seed is not None and method_class.draws(options):
        options["seed"] = seed
    return method_class, options, {"along_path": True} if along else {}


def check_options(method: MethodSpec) -> None:
    """Check a method and its options as far as no model is needed, before one is loaded."""
    method_class, options, _ = class_and_options(method, None)
    if method.instance is None:
        method_class.check_options(method.variant, options)


def baseline_by_side(options: Mapping[str, object], sides: Iterable[Modality]) -> Keywords:
    """Return the options with the baseline of both sides set for each side, such as ``image_baseline``.

    A file of mean states that lacks a side is then an error. Use this for results without warnings, which cannot report
    that a side keeps its default.
    """
    baseline = options.get("baseline")
    open_sides = [side for side in sides if options.get(f"{side}_baseline") is None]
    if baseline is None or not open_sides:
        return dict(options)

    by_side = {**options, **{f"{side}_baseline": baseline for side in open_sides}}
    if "image_baseline" in by_side and "text_baseline" in by_side:
        del by_side["baseline"]  # it would have no effect
    return by_side


def _mean_states_by_side(
    model: Model, method_class: type[Method], options: Keywords, modalities: Modalities
) -> tuple[Keywords, list[Modality]]:
    """Restrict a file of mean states, named for both sides, to the sides that it has, and return the other sides.

    If it has neither side, the options stay as they are, and the method raises an error.
    """
    baseline: Any = options.get("baseline")
    if not isinstance(baseline, str) or modalities[0] == modalities[1]:
        return options, []

    state, _, file = baseline.partition(":")
    if state != "mean" or not {"layer", "baseline"} <= {field.name for field in fields(method_class)}:
        return options, []

    open_sides: list[Modality] = [side for side in modalities if options.get(f"{side}_baseline") is None]
    from nibt.models._mean_states import mean_states  # which other baselines do not need

    states = mean_states(model, file)
    unserved: list[Modality] = [side for side in open_sides if not states.layers(side)]
    if len(unserved) in (0, len(open_sides)):
        return options, []

    restricted = {name: value for name, value in options.items() if name != "baseline"}
    for side in open_sides:
        if side not in unserved:
            restricted[f"{side}_baseline"] = baseline

    return restricted, unserved


def _keeps_baseline(side: Modality, options: Keywords, method: Method) -> str:
    """Return the warning about a side that a file of mean states lacks."""
    opposite = "text" if side == "image" else "image"
    lacking = "images" if side == "image" else "captions"
    baseline = options[f"{opposite}_baseline"]
    kept = method.options()["baseline"]
    return (
        f"{baseline} has mean states of the {opposite} side only, since it was computed without {lacking}: the {side} "
        f"side keeps its baseline {kept!r}"
    )
