"""What is asked of every pair: methods and targets resolved for both sides, and the record of it.

Everything that a call leaves open (layers, variants, fallbacks of a target that has no meaning on a side) is decided
here, once, before anything is explained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from nibt.errors import BadOption
from nibt.layers import Score, resolve_auto
from nibt.methods.base import Method
from nibt.methods.base_path import along_path
from nibt.models.base import Model, Tower
from nibt.pair import Pair, Picture, listed, read_caption, read_picture
from nibt.reference import MeanStates
from nibt.registry import find
from nibt.side import mean_states
from nibt.targets.base import Setting, Target
from nibt.types import Embedding, Modality

_PACKAGES = ("nibt", "torch", "transformers", "open_clip_torch", "timm", "pillow")


@dataclass(frozen=True)
class Question:
    """What is asked of every pair: a method for each tower, and what number it explains there."""

    model: Model
    methods: dict[Modality, Method]
    targets: dict[Modality, Target]
    settings: dict[Modality, Setting]
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What is written down of the model and of the packages that it runs in."""
        model = self.model
        told = {"id": model.id, "family": model.family, "weights_hash": model.weights_hash, "dtype": model.dtype,
                "device": model.device}  # fmt: skip
        return {"model": told, "versions": {name: version(name) for name in _PACKAGES}}


@dataclass(frozen=True)
class Contrast:
    """What a target is given beside the pair: captions, pictures, and wordings with ``{}``."""

    against: tuple[str, ...] = ()
    against_images: tuple[Picture, ...] = ()
    templates: tuple[str, ...] = ()

    @classmethod
    def read(cls, against: Any, against_images: Any, templates: Any) -> "Contrast":
        """Single values or lists, as they come from a caller."""
        return cls(
            tuple(map(read_caption, listed(against))), tuple(map(read_picture, listed(against_images))),
            tuple(listed(templates)),
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """As it is written down."""
        given = {"against": list(self.against), "against_images": [picture.source for picture in self.against_images]}
        return {name: value for name, value in given.items() if value}


def ask(
    model: Model, method: str, target: str, variant: str, contrast: Contrast, sample: Sequence[Pair] | None,
    seed: int | None, options: dict[str, Any],
) -> Question:  # fmt: skip
    """Resolve all that a question leaves open, so that every pair is asked the same.

    A seed is recorded in any case, and given to methods that draw at random.
    """
    targets, settings, told = _targets(model, target, contrast)
    kind, options, chosen = _kind(method, options)
    if seed is not None and "seed" in {field.name for field in fields(kind)}:
        options = {**options, "seed": seed}
    if "auto" in [value for name, value in options.items() if name.endswith("layer")]:
        scores: dict[Modality, Score] = {side: partial(targets[side], setting=settings[side]) for side in targets}
        options, tried = resolve_auto(model, kind, variant, options, scores, sample)
        chosen |= tried
    methods: dict[Modality, Method] = {tower.modality: kind.configured(tower, variant, options, model.defaults)
               for tower in (model.image, model.text)}  # fmt: skip
    resolved = {side: methods[side].options() for side in methods}
    record = {"name": method, "variant": variant, "seed": seed, **resolved, **chosen}
    told_of_target = {"target": target, "options": {**_plain(targets["image"]), **contrast.record()}}
    return Question(model, methods, targets, settings, {"method": record, "target": told_of_target}, told)


def _kind(method: str, options: dict[str, Any]) -> tuple[type[Method], dict[str, Any], dict[str, Any]]:
    """The method, on its own or along NIB's path; the options without that one; and what is to be recorded of it."""
    others = {name: value for name, value in options.items() if name != "along_path"}
    along = str(options.get("along_path", False)).lower()
    if along not in ("true", "false"):
        raise BadOption(f"along_path must be true or false (got {options['along_path']!r})")
    if along == "false":
        return find("methods", method), others, {}
    return along_path(method), others, {"along_path": True}


def _plain(target: Target) -> dict[str, Any]:
    return {key: list(value) for key, value in vars(target).items()}


def _targets(
    model: Model, name: str, contrast: Contrast
) -> tuple[dict[Modality, Target], dict[Modality, Setting], tuple[str, ...]]:
    """The target and the setting of each side. A side on which the target has no meaning falls back to cosine, and
    says so.
    """
    kind, cosine = find("targets", name), find("targets", "cosine")()
    if contrast.templates and name != "ensemble":
        raise BadOption(f"the target {name} takes no templates; ensemble does")
    target: Target = kind(contrast.templates) if contrast.templates else kind()
    if target.others == "none" and (contrast.against or contrast.against_images):
        raise BadOption(f"the target {name} compares with nothing: leave against out, or choose softmax or difference")
    settings: dict[Modality, Setting] = {
        "image": _setting(model, model.text, target, contrast.against),
        "text": _setting(model, model.image, target, contrast.against_images),
    }
    if name == "ensemble":
        told = "the target ensemble is of captions: the text side explains the caption's own cosine"
        return {"image": target, "text": cosine}, settings, (told,)
    lacking = [side for side in settings if target.others != "none" and settings[side].others is None]
    if len(lacking) == 2:
        raise BadOption(f"the target {name} needs something to compare with: give captions in against (--against), or "
                        "pictures in against_images (--against-image)")  # fmt: skip
    need = {"image": "captions (--against)", "text": "pictures (--against-image)"}
    told = tuple(f"the target {name} has no meaning on the {side} side without other {need[side]}: its cosine is "
                 "explained" for side in lacking)  # fmt: skip
    return {side: cosine if side in lacking else target for side in settings}, settings, told


def _setting(model: Model, other: Tower, target: Target, items: Sequence[Any]) -> Setting:
    """The others of a side: those given or, for centred, the mean embedding that ships with an embedded model."""
    others = encode(other, items) if items else None
    if target.others == "one" and len(items) > 1:
        raise BadOption(f"the target compares with one other {'caption' if other is model.text else 'picture'} "
                        f"(got {len(items)}); softmax takes several")  # fmt: skip
    if others is None and type(target).__name__ == "Centred" and model.folder is not None:
        centre = shipped(model).tensors.get(f"centre.{other.modality}")
        others = None if centre is None else centre[None].to(other.example)
    return Setting(model.scale, model.bias, others)


def shipped(model: Model) -> MeanStates:
    """The mean states that ship with a model, or none."""
    there = model.folder is not None and (model.folder / "reference.safetensors").exists()
    return mean_states(model) if there else MeanStates({})


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
