"""What is asked of every pair: methods and targets resolved for both places, and the record of it.

A pair has two places with a modality each. What holds for a modality holds for every place that has it: two pictures
are explained by one method and one target, each held against the other.

Everything that a call leaves open (layers, variants, fallbacks of a target that has no meaning on a side) is decided
here, once, before anything is explained.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import torch

from nibt.core.side import mean_states
from nibt.data.images import ImageInput, read_image
from nibt.data.pair import Pair, as_list, read_caption
from nibt.engine.layers import Score, resolve_auto
from nibt.errors import BadOption
from nibt.methods._path import along_path
from nibt.methods._shifts import MOST, Shifted
from nibt.methods.base import Method
from nibt.methods.nib import NIB
from nibt.models._mean_states import MeanStates, file_hashes
from nibt.models.base import Model, Tower
from nibt.registry import find
from nibt.targets.base import Target, TargetContext
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, Modality

Places = tuple[Modality, Modality]
MIXED: Places = ("image", "text")
_PACKAGES = ("nibt", "torch", "transformers", "open_clip_torch", "timm", "pillow")


@dataclass(frozen=True)
class ExplanationSpec:
    """What is asked of every pair: a method for each tower that its places need, and what number it explains there.
    ``memory`` is the room for states that go through together, in MB.
    """

    model: Model
    methods: dict[Modality, Method]
    targets: dict[Modality, Target]
    settings: dict[Modality, TargetContext]
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()
    places: Places = MIXED
    memory: float | None = None

    @property
    def names(self) -> tuple[str, str]:
        """What the places are called: as their modalities, or first and second where these are the same."""
        return ("first", "second") if _one_kind(self.places) else self.places

    def narrowed(self, side: Modality) -> NIB:
        """The method of a side, where only NIB on its own will do.

        Raises:
            BadOption: pictures are to be shifted, too.

        """
        method = self.methods[side]
        if not isinstance(method, NIB):
            raise BadOption(
                "shifts are for explain and measure: what one patch contributes needs one grid; leave shifts out"
            )
        return method

    @property
    def facts(self) -> dict[str, Any]:
        """What is written down of the model and of the packages that it runs in."""
        return {"model": self.model.record(), "versions": dict(_versions())}


@cache
def _versions() -> dict[str, str]:
    """Read once: each is a search through all installed packages."""
    return {name: version(name) for name in _PACKAGES}


@dataclass(frozen=True)
class Contrast:
    """What a target is given beside the pair: captions, pictures, and wordings with ``{}``."""

    against: tuple[str, ...] = ()
    against_images: tuple[ImageInput, ...] = ()
    templates: tuple[str, ...] = ()

    @classmethod
    def read(cls, against: Any, against_images: Any, templates: Any) -> "Contrast":
        """Single values or lists, as they come from a caller."""
        captions = tuple(map(read_caption, as_list(against)))
        double = next((caption for caption in captions if captions.count(caption) > 1), None)
        if double is not None:
            raise BadOption(f"against has {double!r} {captions.count(double)} times: give each caption once")
        return cls(captions, tuple(map(read_image, as_list(against_images))), tuple(as_list(templates)))

    def record(self) -> dict[str, Any]:
        """As it is written down."""
        record = {
            "against": list(self.against),
            "against_images": [picture.source for picture in self.against_images],
            "against_images_hash": [picture.digest for picture in self.against_images],
        }
        return {name: value for name, value in record.items() if value}


@plain_torch()
def resolve(
    model: Model,
    method: str,
    target: str,
    variant: str,
    contrast: Contrast,
    sample: Sequence[Pair] | None,
    seed: int | None,
    options: dict[str, Any],
    places: Places = MIXED,
) -> ExplanationSpec:
    """Resolve all that a question leaves open, so that every pair is asked the same.

    A seed is recorded in any case, and given to methods that draw at random.

    Raises:
        UnknownName: no method, target, variant or option has that name.
        BadOption: an option cannot have that value, or not for places of one kind.

    """
    targets, settings, told = _targets(model, target, contrast, places)
    kind, options, chosen, shifts = _kind(method, options)
    if _one_kind(places):
        _check_alike(places[0], options)
    if seed is not None and "seed" in {field.name for field in fields(kind)}:
        options = {**options, "seed": seed}
    options, unserved = _mean_states_by_side(model, kind, options, places)
    if "auto" in [value for name, value in options.items() if name.endswith("layer")]:
        scores: dict[Modality, Score] = {side: partial(targets[side], setting=settings[side]) for side in targets}
        options, tried = resolve_auto(model, kind, variant, options, scores, sample)
        chosen |= tried
    methods: dict[Modality, Method] = {
        place: kind.configured(model.tower(place), variant, options, model.defaults) for place in dict.fromkeys(places)
    }
    if shifts > 1:
        methods = _shifted(methods, shifts)
    resolved = {side: methods[side].options() for side in methods}
    record = {"name": method, "variant": variant, "seed": seed, "signed": kind.signed, **resolved, **chosen}
    hashes = file_hashes(one.get("reference") for one in resolved.values())
    record |= {"reference_hash": hashes} if hashes else {}
    told_of_target = {"target": target, "options": {**_plain(targets[places[0]]), **contrast.record()}}
    notes = tuple(_keeps_baseline(side, options, methods[side]) for side in unserved)
    warnings = (*model.request.notes, *told, *notes)
    return ExplanationSpec(
        model, methods, targets, settings, {"method": record, "target": told_of_target}, warnings, places
    )


def _one_kind(places: Places) -> bool:
    return places[0] == places[1]


def _check_alike(modality: Modality, options: dict[str, Any]) -> None:
    """Refuse options that only a picture with a caption can have."""
    two, other = ("two pictures", "text_") if modality == "image" else ("two captions", "image_")
    for name, value in options.items():
        if name.startswith(other):
            raise BadOption(f"{name} is an option of a side that {two} do not have: leave it out")
        if name.endswith("layer") and value == "auto":
            raise BadOption(
                f"{name} cannot be auto for {two}: it is chosen on pictures with their captions; give a "
                "layer, or leave it out"
            )


def _kind(method: str, options: dict[str, Any]) -> tuple[type[Method], dict[str, Any], dict[str, Any], int]:
    """The method, on its own or along NIB's path; the options that are its own; what is to be recorded of it; and how
    often a picture is shifted.
    """
    others = {name: value for name, value in options.items() if name not in ("along_path", "shifts")}
    along, shifts = str(options.get("along_path", False)).lower(), str(options.get("shifts", 1))
    if along not in ("true", "false"):
        raise BadOption(f"along_path must be true or false (got {options['along_path']!r})")
    if not (shifts.isdecimal() and 1 <= int(shifts) <= MOST):
        raise BadOption(f"shifts must be a whole number from 1 (none) to {MOST} (got {options['shifts']!r})")
    if along == "false":
        return find("methods", method), others, {}, int(shifts)
    return along_path(method), others, {"along_path": True}, int(shifts)


def baseline_by_side(options: dict[str, Any], sides: Iterable[Modality]) -> dict[str, Any]:
    """The options with a baseline for both sides named for each of these. A file of mean states that lacks one of them
    is then refused: for results in which it could not be noted that a side keeps its default.
    """
    baseline = options.get("reference")
    named = {f"{side}_reference": baseline for side in sides if options.get(f"{side}_reference") is None}
    return options if baseline is None else {**options, **named}


def _mean_states_by_side(
    model: Model, kind: type[Method], options: dict[str, Any], places: Places
) -> tuple[dict[str, Any], list[Modality]]:
    """The options with a file of mean states, named for both sides, named only for the sides that it holds; and the
    sides that it lacks. A file that holds neither is left, and refused where it is used; so is one named for a side.
    """
    baseline: Any = options.get("reference")
    names = {field.name for field in fields(kind)}
    named = isinstance(baseline, str) and baseline.partition(":")[0] == "mean"
    if not named or _one_kind(places) or not {"layer", "reference"} <= names:
        return options, []
    open_sides: list[Modality] = [side for side in places if options.get(f"{side}_reference") is None]
    states = mean_states(model, baseline.partition(":")[2])
    unserved: list[Modality] = [side for side in open_sides if not states.layers(side)]
    if len(unserved) in (0, len(open_sides)):
        return options, []
    others = {name: value for name, value in options.items() if name != "reference"}
    return others | {f"{side}_reference": baseline for side in open_sides if side not in unserved}, unserved


def _keeps_baseline(side: Modality, options: dict[str, Any], method: Method) -> str:
    """What is noted of a side that a file of mean states lacks."""
    other, lacking = ("text", "images") if side == "image" else ("image", "captions")
    baseline, kept = options[f"{other}_reference"], method.options()["reference"]
    return (
        f"{baseline} has mean states of the {other} side only, since it was made without {lacking}: the {side} side "
        f"keeps its baseline {kept!r}"
    )


def _shifted(methods: dict[Modality, Method], shifts: int) -> dict[Modality, Method]:
    """The same, with pictures explained at so many shifts each way."""
    if "image" not in methods:
        raise BadOption("shifts are of pictures, and there is none: leave shifts out")
    return {**methods, "image": Shifted(methods["image"], shifts)}


def _plain(target: Target) -> dict[str, Any]:
    return {key: list(value) for key, value in vars(target).items()}


def _targets(
    model: Model, name: str, contrast: Contrast, places: Places
) -> tuple[dict[Modality, Target], dict[Modality, TargetContext], tuple[str, ...]]:
    """The target and the setting of each side. Of a picture with a caption, a side on which the target has no meaning
    falls back to cosine, and says so.
    """
    kind, cosine = find("targets", name), find("targets", "cosine")()
    if contrast.templates and name != "ensemble":
        raise BadOption(f"the target {name} takes no templates; ensemble does")
    target: Target = kind(contrast.templates) if contrast.templates else kind()
    if target.others == "none" and (contrast.against or contrast.against_images):
        raise BadOption(f"the target {name} compares with nothing: leave against out, or choose softmax or difference")
    if _one_kind(places):
        return {places[0]: target}, {places[0]: _alike(model, name, target, contrast, places[0])}, ()
    settings: dict[Modality, TargetContext] = {
        "image": _setting(model, model.text, target, contrast.against),
        "text": _setting(model, model.image, target, contrast.against_images),
    }
    if name == "ensemble":
        told = "the target ensemble is of captions: the text side explains the caption's own cosine"
        return {"image": target, "text": cosine}, settings, (told,)
    lacking = [side for side in settings if target.others != "none" and settings[side].others is None]
    if len(lacking) == 2:
        raise BadOption(
            f"the target {name} needs something to compare with: give captions in against (--against), or "
            "pictures in against_images (--against-image)"
        )
    need = {"image": "captions (--against)", "text": "pictures (--against-image)"}
    told = tuple(
        f"the target {name} has no meaning on the {side} side without other {need[side]}: its cosine is explained"
        for side in lacking
    )
    return {side: cosine if side in lacking else target for side in settings}, settings, told


def _alike(model: Model, name: str, target: Target, contrast: Contrast, modality: Modality) -> TargetContext:
    """The setting of both places of two pictures or two captions; nothing falls back, since both are alike."""
    pictures, captions = "pictures in against_images (--against-image)", "captions in against (--against)"
    two, own, items, others = (
        ("two pictures", pictures, contrast.against_images, contrast.against)
        if modality == "image"
        else ("two captions", captions, contrast.against, contrast.against_images)
    )
    if name == "ensemble":
        raise BadOption(f"the target ensemble is of a caption seen from a picture: {two} cannot have it; choose cosine")
    if others:
        raise BadOption(f"{two} are contrasted with their own kind: give {own} only")
    setting = _setting(model, model.tower(modality), target, items)
    if target.others != "none" and setting.others is None:
        raise BadOption(f"the target {name} needs something to compare with: give {own}")
    return setting


def _setting(model: Model, other: Tower, target: Target, items: Sequence[Any]) -> TargetContext:
    """The others of a side: those given or, for centred, the mean embedding that ships with an embedded model."""
    others = encode(other, items) if items else None
    if target.others == "one" and len(items) > 1:
        raise BadOption(
            f"the target compares with one other {'caption' if other is model.text else 'picture'} "
            f"(got {len(items)}); softmax takes several"
        )
    if others is None and type(target).__name__ == "Centred" and model.folder is not None:
        centre = shipped(model).tensors.get(f"centre.{other.modality}")
        others = None if centre is None else centre[None].to(other.example)
    return TargetContext(model.scale, model.bias, others)


def shipped(model: Model) -> MeanStates:
    """The mean states that ship with a model, or none."""
    there = model.folder is not None and (model.folder / "reference.safetensors").exists()
    return mean_states(model) if there else MeanStates({})


@plain_torch()
def encode(tower: Tower, items: Sequence[Any], batch_size: int = 32) -> Embedding:
    """Embeddings of pictures or captions, in their order."""
    found: dict[int, torch.Tensor] = {}
    for indices in batches([tower.group(item) for item in items], batch_size):
        embeddings = tower.encode(tower.prepare([items[index] for index in indices]))
        found |= dict(zip(indices, embeddings, strict=True))
    return torch.stack([found[index] for index in range(len(items))])


def batches(groups: Sequence[Any], size: int) -> Iterator[list[int]]:
    """Indices of items that may share a batch, in their order."""
    for group in dict.fromkeys(groups):
        members = [index for index, other in enumerate(groups) if other == group]
        yield from (members[first : first + size] for first in range(0, len(members), size))
