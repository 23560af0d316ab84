"""Scores of requests: targets with what they compare with, for each side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from nibt.data.images import ImageInput, ImageSource, looks_like_image, read_image
from nibt.data.pair import Texts, as_list, read_caption, repeated
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.models._tower import Tower
from nibt.models.base import Model
from nibt.records import JsonObject
from nibt.registry import available, find
from nibt.targets.base import Score, Target
from nibt.targets.similarity import PairScore
from nibt.types import Modality

Modalities: TypeAlias = tuple[Modality, Modality]
IMAGE_AND_TEXT: Modalities = ("image", "text")
_PLURAL = {"image": "images", "text": "captions"}
_BY_MODALITY = {"image": "images in against_images (--against)", "text": "captions in against (--against)"}


@dataclass(frozen=True)
class Contrast:
    """The captions and images that a target compares with, and templates of captions with ``{}``.

    If it is ``explained``, the one caption or image that one side is compared with has a side of its own.
    """

    against: tuple[str, ...] = ()
    against_images: tuple[ImageInput, ...] = ()
    templates: tuple[str, ...] = ()
    explained: bool = False

    @classmethod
    def of(
        cls, against: Texts, against_images: ImageSource | Sequence[ImageSource], templates: str | Sequence[str]
    ) -> "Contrast":
        """Read the arguments of ``explain``, each a single value or a list."""
        for text in as_list(against):
            if isinstance(text, str) and looks_like_image(text):
                raise BadOption(
                    f"against takes captions (got {text!r:.80}, which names an image): give images in against_images, "
                    "or a caption of that name as a Caption"
                )

        captions = tuple(map(read_caption, as_list(against)))
        images = tuple(map(read_image, as_list(against_images)))
        named = {"against": captions, "against_images": [image.digest for image in images]}
        for name, values in {**named, "templates": as_list(templates)}.items():
            double = repeated(values)
            if double is not None:
                text = images[double].source if name == "against_images" else values[double]
                raise BadInput(f"{name} has {text!r} {values.count(values[double])} times: give each one once")

        return cls(captions, images, tuple(as_list(templates)))

    def record(self) -> JsonObject:
        """Return the contrast as plain data, without empty fields."""
        record = {
            "against": list(self.against),
            "against_images": [image.source for image in self.against_images],
            "against_images_hash": [image.digest for image in self.against_images],
        }
        return {name: value for name, value in record.items() if value}


def check_target_name(name: str | None) -> None:
    """Check that there is a target of that name; None stands for a default."""
    if not isinstance(name, str | None) or name not in (None, *available("targets")):
        raise UnknownName("targets", name, available("targets"))


def resolve_targets(model: Model, name: str, contrast: Contrast, modalities: Modalities) -> dict[Modality, Score]:
    """Return the score of each modality, without the embeddings of a pair.

    For an image with a caption, a side that has nothing to compare with is explained with ``cosine``, or by a
    classifier with ``logit``.
    """
    target = _target(name, contrast)
    is_classifier = model.is_classifier
    if is_classifier and target.name == "softmax" and contrast.against:
        raise BadOption(
            f"the target softmax of the classifier {model.id} is the probability among all of its classes: leave "
            "against out, or choose difference"
        )
    if target.averages or target.name == PairScore.name or not model.has_logits:
        check_target(model, target)

    if modalities[0] == modalities[1]:
        return {modalities[0]: _same_modality(model, target, contrast, modalities[0])}

    plain = find("targets", plain_target(model))()
    scores: dict[Modality, Score] = {
        "image": _score(model, model.text, target, contrast.against),
        "text": _score(model, model.image, target, contrast.against_images),
    }
    if target.rewords:
        scores["text"] = replace(scores["text"], target=plain)
        return scores

    # a side that has nothing to compare with; an image of a classifier is compared with all classes
    lacking: list[Modality] = []
    if target.others != "none":
        lacking = [side for side in IMAGE_AND_TEXT if scores[side].lacks_others]
    if is_classifier and target.name == "softmax":
        lacking = [side for side in lacking if side == "text"]
    if len(lacking) == 2:
        raise BadOption(
            f"the target {name} needs something to compare with: give {_BY_MODALITY['text']}, or "
            f"{_BY_MODALITY['image']}"
        )

    for side in lacking:
        scores[side] = replace(scores[side], target=plain)
    return scores


def plain_target(model: Model) -> str:
    """Return the target that is the similarity itself: ``cosine``, ``logit`` of classifiers, or ``score``."""
    return model.similarity.target


def plain_target_warning(plain: str, target: type[Target], side: str) -> str:
    """Return the warning about a side that is explained with the similarity itself in place of a target."""
    name = target.name
    if target.rewords:
        return (
            f"words are explained with {plain}: the target {name} rewords captions, which affects the image side only"
        )
    if side == "image":
        return f"patches are explained with {plain}: {name} needs a second caption there; give {_BY_MODALITY['text']}"
    return f"words are explained with {plain}: {name} needs a second image there; give {_BY_MODALITY['image']}"


def _target(name: str, contrast: Contrast) -> Target:
    """Return the target of a name, with the templates of captions, which it must take, as what it is compared with."""
    target_class = find("targets", name)
    target: Target = target_class()
    if contrast.templates:
        if not target.rewords:
            raise BadOption(f"the target {name} takes no templates: leave templates out, or choose ensemble")
        target = target_class(contrast.templates)

    if target.others == "none" and (contrast.against or contrast.against_images):
        raise BadOption(f"the target {name} compares with nothing: leave against out, or choose softmax or difference")
    return target


def check_target(model: Model, target: Target) -> None:
    """Check that a model has what a target computes with, whether it is explained or measured."""
    is_classifier = model.is_classifier
    if model.is_fused and (target.averages or target.name in ("logit", "cosine")):
        raise BadOption(
            f"{model.id} reads the image and the text in one network, and has no embeddings for the target "
            f"{target.name}: choose score or difference"
        )
    if target.name == "softmax" and not model.similarity.has_softmax:
        raise BadOption(
            f"the target softmax compares logits of candidates, and the score {model.similarity.name} of {model.id} is "
            "none: choose score or difference"
        )
    if target.name == PairScore.name and not model.is_fused:
        raise BadOption(
            f"the target score is of models that read both inputs in one network, and {model.id} compares them: "
            f"choose {plain_target(model)}"
        )
    if target.name == "logit" and not (model.has_logits or is_classifier):
        raise BadOption(f"{model.id} has no scale of logits: choose cosine")
    if target.averages and is_classifier:
        raise BadOption(
            f"the target {target.name} takes means of embeddings, and {model.id} is a classifier: choose logit, "
            "difference or softmax"
        )
    if target.averages and model.similarity.item_ndim > 1:
        raise BadOption(
            f"the target {target.name} takes means of embeddings, and {model.id} compares sets of vectors: choose "
            "cosine (which is MaxSim for this model), difference or softmax"
        )


def _same_modality(model: Model, target: Target, contrast: Contrast, modality: Modality) -> Score:
    """Return the score of two images or two captions, which has no fallback to ``cosine``."""
    two = f"two {_PLURAL[modality]}"
    items: Sequence[ImageInput | str] = contrast.against_images if modality == "image" else contrast.against
    others: Sequence[Any] = contrast.against if modality == "image" else contrast.against_images
    if model.is_classifier:
        raise BadOption(
            f"{model.id} is a classifier, which compares images with its own classes (got {two}): give an image and "
            "the name of a class"
        )
    if model.is_fused:
        raise BadOption(f"{model.id} reads an image and a text in one network (got {two}): give an image and a caption")
    if model.similarity.item_ndim > 1:
        raise BadOption(
            f"{model.id} compares a query with an image by late interaction (got {two}): give an image and a caption"
        )
    if target.rewords:
        raise BadOption(f"the target {target.name} needs an image and a caption (got {two}): choose cosine")
    if others:
        plural = _PLURAL[modality]
        raise BadOption(f"{two} can only be compared with other {plural}: give {plural} in against")

    score = _score(model, model.tower(modality), target, items)
    if target.others != "none" and score.lacks_others:
        raise BadOption(
            f"the target {target.name} needs something to compare with: give {_PLURAL[modality]} in against (--against)"
        )
    return score


def _score(model: Model, other_tower: Tower, target: Target, items: Sequence[ImageInput | str]) -> Score:
    """Return the score of a side, with the embeddings of the items that its target compares with.

    Without items, a target may have a default that ships with an embedded model.
    """
    others = encode(other_tower, items) if items else None
    if target.others == "one" and len(items) > 1:
        raise BadOption(
            f"the target compares with one other {'caption' if other_tower is model.text else 'image'} "
            f"(got {len(items)}): give one, or choose softmax"
        )

    shipped_mean = None
    if others is None and target.shipped_default:
        from nibt.models._mean_states import shipped_mean_states  # which other targets do not need

        shipped_mean = shipped_mean_states(model).tensors.get(f"{target.shipped_default}.{other_tower.modality}")
        if shipped_mean is not None:
            shipped_mean = shipped_mean.to(other_tower.example.device, other_tower.dtype)

    similarity = model.similarity if other_tower is model.text else model.similarity.swapped()
    return Score(target, similarity, model.scale, model.bias, others, shipped_mean=shipped_mean)
