"""What a model is that nibt cannot explain, and the nearest way out.

The kind comes from what Transformers declares of a class: the tasks in whose mappings it is, and what it reads and
writes. It never comes from how a name is spelled.
"""

from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple

from nibt.models._classes import declared
from nibt.models._failures import DUAL, REFERENCE

_PAIR = (
    "if you have an image model and a text model with projections to one space, load both with Transformers, and pass "
    "load_model((image_model, text_model), processor=...)"
)


class Kind(NamedTuple):
    """What models of a kind do, as a sentence after "it", and what to do instead."""

    does: str
    instead: str


WRITES = Kind("writes text about images", f"use a model whose answers are supported ({REFERENCE})")
_AUDIO = Kind("reads audio", DUAL)
_VIDEO = Kind("reads videos", "use a model of images, and explain single frames")
_DETECTS = Kind("detects or segments objects", DUAL)
_CLASSIFIES = Kind(
    "classifies images by a network that nibt cannot cut",
    f"use a classifier that is supported, such as a ViT, Swin, ConvNeXt or ResNet ({REFERENCE})",
)
_FUSES = Kind(
    "reads an image and a text together in one network, so there are no two embeddings to compare",
    DUAL,
)
_IMAGES = Kind("reads images only", _PAIR)
_TEXT = Kind("reads text only", _PAIR)
_TASKS = {  # of Transformers, the first that has a class counts
    "IMAGE_TEXT_TO_TEXT": WRITES,
    **dict.fromkeys(("ZERO_SHOT_OBJECT_DETECTION", "OBJECT_DETECTION", "MASK_GENERATION"), _DETECTS),
    **dict.fromkeys(
        ("IMAGE_SEGMENTATION", "INSTANCE_SEGMENTATION", "SEMANTIC_SEGMENTATION", "UNIVERSAL_SEGMENTATION"), _DETECTS
    ),
    **dict.fromkeys(("AUDIO_CLASSIFICATION", "AUDIO_FRAME_CLASSIFICATION", "AUDIO_XVECTOR", "CTC"), _AUDIO),
    **dict.fromkeys(("SPEECH_SEQ_2_SEQ", "TEXT_TO_SPECTROGRAM", "TEXT_TO_WAVEFORM"), _AUDIO),
    "VIDEO_CLASSIFICATION": _VIDEO,
    "IMAGE_CLASSIFICATION": _CLASSIFIES,
}
_AUDIO_INPUTS = {"input_features", "input_values", "audio_values", "audio_input_ids"}
_IMAGE_INPUTS = {"pixel_values", "visual_embeds", "visual_feats", "flattened_patches", "image_patches"}


def kind_of(classes: Sequence[str], model_type: object) -> Kind | None:
    """Return the kind of a model by the classes that its configuration names, or by its ``model_type``."""
    for task, kind in _TASKS.items():
        if {*classes} & _classes_of(_mapping(f"FOR_{task}")):
            return kind

    model_type = model_type if isinstance(model_type, str) else ""
    if model_type in _mapping("FOR_IMAGE_TEXT_TO_TEXT"):
        return WRITES

    from_type = _mapping("").get(model_type)
    for name in (*classes, *_as_names(from_type)):
        if (kind := _kind_of_class(name)) is not None:
            return kind

    return None


def declared_class(model_type: object, supported: Iterable[str]) -> str | None:
    """Return the supported class that writes text and that Transformers declares for a ``model_type``, or None."""
    declared = _mapping("FOR_IMAGE_TEXT_TO_TEXT").get(model_type) if isinstance(model_type, str) else None
    names = {*supported}
    return next((name for name in _as_names(declared) if name in names), None)


def _mapping(task: str) -> Any:
    """Return the mapping of a task from ``model_type`` to the names of classes; empty if Transformers has none."""
    from transformers.models.auto import modeling_auto

    return getattr(modeling_auto, f"MODEL_{task}_MAPPING_NAMES" if task else "MODEL_MAPPING_NAMES", {})


def _classes_of(mapping: Mapping[str, str | Iterable[str]]) -> set[str]:
    return {name for value in mapping.values() for name in _as_names(value)}


def _as_names(value: str | Iterable[str] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _kind_of_class(name: str) -> Kind | None:
    """Return the kind of a class of Transformers by what its forward pass takes, and whether it writes."""
    import transformers

    model_class: Any = getattr(transformers, name, None)
    if model_class is None or not hasattr(model_class, "main_input_name"):
        return None

    takes = {*signature(model_class.forward).parameters, model_class.main_input_name}
    if takes & _AUDIO_INPUTS:
        return _AUDIO
    if "pixel_values_videos" in takes and "pixel_values" not in takes:
        return _VIDEO
    if not takes & _IMAGE_INPUTS:
        return _TEXT if "input_ids" in takes else None
    if "input_ids" not in takes:
        return _IMAGES
    if hasattr(model_class, "get_text_features") and hasattr(model_class, "get_image_features"):
        return None  # a dual encoder: what is wrong is another entry of the configuration
    return WRITES if model_class.can_generate() else _FUSES


def writes(classes: Sequence[str], model_type: object) -> str:
    """Return what to do with a model of a class that writes text about images, and is not supported."""
    supported = [name for row in declared().values() for name in row.writes]
    writer = declared_class(model_type, supported)
    if writer is not None and writer not in classes:
        return (
            f"it has no head that writes text: save the model as a {writer}, which Transformers declares for its "
            "model_type, and use nibt answer"
        )
    return f"it {WRITES.does}, and nibt does not explain its answers yet; {WRITES.instead}"
