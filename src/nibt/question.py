"""What is asked of every pair: methods and targets resolved for both sides, and the record of it.

Everything that a call leaves open (layers, variants, fallbacks of a target that has no meaning on a side) is decided
here, once, before anything is explained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from nibt.errors import BadOption
from nibt.layers import resolve_auto
from nibt.methods.base import Method
from nibt.models.base import Model, Tower
from nibt.pair import Pair, read_caption, read_picture
from nibt.reference import MeanStates
from nibt.registry import find
from nibt.side import mean_states
from nibt.targets.base import Setting, Target
from nibt.types import Embedding, Modality


@dataclass(frozen=True)
class Question:
    """What is asked of every pair: a method for each tower, and what number it explains there."""

    model: Model
    methods: dict[Modality, Method]
    targets: dict[Modality, Target]
    settings: dict[Modality, Setting]
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()


def ask(
    model: Model, method: str, target: str, variant: str, against: Any, against_images: Any, templates: Sequence[str],
    sample: Sequence[Pair] | None, options: dict[str, Any],
) -> Question:  # fmt: skip
    """Resolve all that a question leaves open, so that every pair is asked the same."""
    targets, settings, told = _targets(model, target, listed(against), listed(against_images), tuple(templates))
    kind: type[Method] = find("methods", method)
    chosen = {}
    if "auto" in [value for name, value in options.items() if name.endswith("layer")]:
        scores = {side: partial(targets[side], setting=settings[side]) for side in targets}
        options, chosen = resolve_auto(model, kind, variant, options, scores, sample)
    methods = {tower.modality: kind.configured(tower, variant, options, model.defaults)
               for tower in (model.image, model.text)}  # fmt: skip
    record: dict[str, Any] = {"name": method, "variant": variant}
    record |= {side: methods[side].options() for side in methods} | chosen
    record["seed"] = options.get("seed")
    question = Question(model, methods, targets, settings, record, told)
    return replace(
        question, record={"method": record, "target": _target_record(target, targets, against, against_images)}
    )


def _target_record(name: str, targets: dict[Modality, Target], against: Any, against_images: Any) -> dict[str, Any]:
    options = {key: list(value) for key, value in vars(targets["image"]).items()}
    given = {"against": listed(against), "against_images": [read_picture(p).source for p in listed(against_images)]}
    return {"target": name, "options": options | {key: value for key, value in given.items() if value}}


def _targets(
    model: Model, name: str, against: list[str], against_images: list[Any], templates: tuple[str, ...]
) -> tuple[dict[Modality, Target], dict[Modality, Setting], tuple[str, ...]]:
    """The target and the setting of each side. A side without the others that a target needs falls back to cosine."""
    kind = find("targets", name)
    if templates and name != "ensemble":
        raise BadOption(f"the target {name} takes no templates; ensemble does")
    target: Target = kind(templates) if templates else kind()
    if target.others == "none" and (against or against_images):
        raise BadOption(f"the target {name} compares with nothing: leave against out, or choose softmax or difference")
    settings = {
        "image": _setting(model, model.text, target, [read_caption(text) for text in against]),
        "text": _setting(model, model.image, target, [read_picture(source) for source in against_images]),
    }
    lacking = [side for side in settings if target.others != "none" and settings[side].others is None]
    if len(lacking) == 2:
        raise BadOption(f"the target {name} needs something to compare with: give captions in against (--against), or "
                        "pictures in against_images (--against-image)")  # fmt: skip
    cosine = find("targets", "cosine")()
    need = {"image": "captions (--against)", "text": "pictures (--against-image)"}
    told = [f"the target {name} has no meaning on the {side} side without other {need[side]}: its cosine is explained"
            for side in lacking]  # fmt: skip
    if name == "ensemble":
        told, lacking = (
            ["the target ensemble is of captions: the text side explains the caption's own cosine"],
            ["text"],
        )
    return {side: cosine if side in lacking else target for side in settings}, settings, tuple(told)  # pyright: ignore


def _setting(model: Model, other: Tower, target: Target, items: list[Any]) -> Setting:
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


def listed(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]
