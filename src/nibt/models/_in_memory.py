"""Models in memory: what is explained of them, and why some cannot be.

Wrappers for training and for several devices are taken off, as long as what they hold computes the same. Of models of
sentence-transformers, what they apply to embeddings and their prompts are kept, and their scores are compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, jit, nn

from nibt.data.images import ImageInput
from nibt.errors import CannotLoad
from nibt.models._adapters import within_layers
from nibt.models._checks import seeded_noise
from nibt.models._compiled import uncompiled
from nibt.models._family import (
    Family,
    check_no_generator,
    class_names,
    family_of_module,
    family_of_score,
    known_classes,
    refusal,
)
from nibt.models._kinds import kind_of
from nibt.models._loaded import check_usable
from nibt.models._request import LoadRequest
from nibt.models._sentence_modules import (
    NO_EFFECT,
    RERANKER,
    Truncated,
    UnitLength,
    check_texts,
    dense_folders,
)
from nibt.models._text_tower import TextTower
from nibt.models._vision_language.prompts import POOLINGS, message_settings
from nibt.models.base import ImageTower, Model
from nibt.models.encoder_pairs import ProjectionPair

_WRAPPERS = {"DataParallel", "DistributedDataParallel", "LightningModule", "Sequential", "_FabricModule"}
_PAIR = ("VisionModelWithProjection", "TextModelWithProjection")
_TEXT = "Two red cars and a cat"
# how far scores may differ: of float32, and of half precision, in which only it computes
_EXACT = 1e-4
_ROUNDED = 2e-2


def find_module(
    source: nn.Module | tuple[nn.Module, nn.Module], request: LoadRequest
) -> tuple[nn.Module, str, LoadRequest]:
    """Return the module that is explained, the name of its family, and the request with its processor."""
    if isinstance(source, tuple):
        source = _pair(*(uncompiled(model) for model in source))
    for submodule in [source] if isinstance(source, jit.ScriptModule) else source.modules():
        check_part(submodule)
    module, request = _unwrapped(uncompiled(source), request)
    family = family_of_module(module)
    assert family is not None
    family = family_of_score(f"{type(module).__name__} in memory", family, class_names(module), request.score)
    check_usable(f"{type(module).__name__} in memory", module)
    return module, family, request


def _pair(first: nn.Module, second: nn.Module) -> ProjectionPair:
    names = [type(model).__name__ for model in (first, second)]
    if not all(name.endswith(end) for name, end in zip(names, _PAIR, strict=True)):
        raise CannotLoad(
            "a pair must be an image model and a text model with projections, such as "
            f"(CLIPVisionModelWithProjection, CLIPTextModelWithProjection), in this order (got {', '.join(names)})"
        )
    if first.config.projection_dim != second.config.projection_dim:  # pyright: ignore
        raise CannotLoad("the image model and the text model of a pair must have the same projection_dim")
    return ProjectionPair(first, second)


def _unwrapped(module: nn.Module, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
    """Take off wrappers until a supported class is reached."""
    names = class_names(module)
    if type(module).__name__.startswith("Peft"):
        return _unwrapped(within_layers(module), request)
    if family_of_module(module) is not None:
        return module, request

    is_of_library = is_library(module)
    if is_of_library and hasattr(module, "predict"):
        raise CannotLoad(f"a {type(module).__name__} is a reranker, {RERANKER}")

    check_no_generator(type(module).__name__, names)
    inside = list(_supported_parts(module))
    if is_of_library and not inside:
        raise CannotLoad(
            f"this {type(module).__name__} has no supported encoder of images: use one of {known_classes()}"
        )

    # what the library applies to embeddings is applied, as ``request_of`` reads it
    added = [] if is_of_library else _added_modules(module)
    if len(inside) != 1 or added or not names & _WRAPPERS:
        raise CannotLoad(f"models of class {type(module).__name__} are not supported{_why_not(module, inside, added)}")

    path, encoder = inside[0]
    if is_of_library:
        return _unwrapped(encoder, request_of(module, request))

    wrapper = module.get_submodule(path.rpartition(".")[0])
    processor = request.processor or getattr(wrapper, "processor", None)
    return _unwrapped(encoder, replace(request, processor=processor))


def _added_modules(module: nn.Module) -> list[str]:
    """Return the classes of parts of a sequence after the first that change similarities, as a projection does."""
    if not isinstance(module, nn.Sequential):
        return []
    names = [type(child).__name__ for child in list(module)[1:]]
    return [name for name in names if name not in NO_EFFECT]


def _why_not(module: nn.Module, inside: Sequence[tuple[str, nn.Module]], added: Sequence[str]) -> str:
    """Return why a model is not supported, and what to do, as the rest of a sentence."""
    if reason := refusal(module):
        return f": {reason}"
    if inside and added:
        return (
            f" with {added[0]} after the encoder, which nibt does not apply in memory: save a model of "
            "sentence-transformers, and give its folder"
        )
    if inside:
        held = ", ".join(f"a {type(encoder).__name__} at .{path}" for path, encoder in inside)
        return f", but this one holds {held}: pass that part to load_model"

    names = class_names(module)
    if any(name.endswith(_PAIR) for name in names):
        return " alone: pass the pair (image model, text model)"

    kind = kind_of([*names], getattr(getattr(module, "config", None), "model_type", None))
    does = "" if kind is None else f": it {kind.does}"
    return f"{does}; use one of {known_classes()}"


def _supported_parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the outermost parts of a module that are supported, with their paths."""
    for name, child in module.named_children():
        if family_of_module(child) is None:
            yield from _supported_parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def check_part(module: nn.Module) -> None:
    """Check that a part of a model can be observed, and that gradients flow through it."""
    if isinstance(module, jit.ScriptModule):
        raise CannotLoad(
            "a scripted or traced model cannot be observed: pass the model itself (of OpenAI's package, "
            "clip.load(..., jit=False))"
        )

    kernel = getattr(getattr(module, "config", None), "_attn_implementation", None)
    if kernel not in (None, "sdpa", "eager"):
        raise CannotLoad(
            f"the attention of the {type(module).__name__} is computed by {kernel!r}, which cannot be observed: call "
            "model.set_attn_implementation('sdpa'), or give the folder of the model"
        )
    if "FullyShardedDataParallel" in class_names(module):
        raise CannotLoad(
            "the weights of a model in FSDP are spread over processes: gather them (FullStateDictConfig), load them "
            "into the plain model, and pass that"
        )
    if ".quantized" in type(module).__module__ and type(module).__module__.startswith(("torch.ao.nn", "torch.nn")):
        raise CannotLoad(
            f"layers are quantized ({type(module).__module__}), and gradients cannot flow through them: pass the model "
            "as it was before quantization"
        )


def check_processor(family: type[Family], request: LoadRequest) -> None:
    """Check that a model in memory comes with what prepares its inputs, which OpenCLIP's own models do not need."""
    if not (family.model_types or family.needs_processor):
        return
    if request.processor is None and not family.model_types and not family.reads_text:
        raise CannotLoad(
            "a classifier in memory needs what prepares its images: load_model(model, processor=...), with "
            "AutoImageProcessor.from_pretrained(...) of Transformers, or weights.transforms() of torchvision"
        )
    if request.processor is None:
        raise CannotLoad(
            "a model in memory needs its processor: load_model(model, processor=AutoProcessor.from_pretrained(...))"
        )
    if family.reads_text and request.text_tokenizer is None:
        raise CannotLoad("the processor has no tokenizer: pass tokenizer=AutoTokenizer.from_pretrained(...)")


_LEAST_USED = 0.9  # the least share of embeddings that a tokenizer of the model uses; some are padding


def misfits(name: str, image: ImageTower, text: TextTower, request: LoadRequest) -> Iterator[str]:
    """Yield notes on a processor that was passed and may be that of another model; it is refused if it cannot fit."""
    tokens = request.text_tokenizer
    weight = text.first_weight
    if hasattr(tokens, "__len__") and weight.ndim == 2:
        if len(tokens) > len(weight):
            raise CannotLoad(
                f"cannot load the model {name!r}: the tokenizer has {len(tokens):,} tokens, and the model has "
                f"embeddings of {len(weight):,}: pass the processor of this model"
            )
        if len(tokens) < _LEAST_USED * len(weight):
            yield (
                f"the tokenizer that was passed has {len(tokens):,} tokens, and the model has embeddings of "
                f"{len(weight):,}: check that it is the tokenizer of this model"
            )

    preparation = getattr(image, "preparation", None)
    sides = getattr(image, "sides", None)
    if preparation is None or sides is None or request.resize or request.image_size:
        return

    height = preparation.resize.height
    width = preparation.resize.width
    if (height, width) != sides:
        yield (
            f"the processor that was passed gives images of {width} x {height} pixels, and the model takes {sides[1]} "
            f"x {sides[0]}: check that it is the processor of this model"
        )


def is_library(module: object) -> bool:
    """Return whether a module is a model of sentence-transformers."""
    return any(base.__module__.startswith("sentence_transformers.base.model") for base in type(module).__mro__)


def request_of(library: Any, request: LoadRequest) -> LoadRequest:
    """Return the request with the processor of a model of sentence-transformers, its prompts and its later modules."""
    first = library[0]
    name = f"{type(library).__name__} in memory"
    entries = [{"type": type(module).__name__, "path": str(place)} for place, module in enumerate(library)]
    places = dense_folders(name, entries, lambda file: library[int(PurePosixPath(file).parts[0])].get_config_dict())
    layers: list[nn.Module] = [UnitLength() if place is None else _Applied(library[int(place)]) for place in places]
    if dimension := getattr(library, "truncate_dim", None):
        layers.append(Truncated(dimension))
    processor = request.processor or getattr(first, "processor", None)
    prompts = {name: getattr(library, name, None) for name in ("prompts", "default_prompt_name", "similarity_fn_name")}
    names = ("modality_config", "processing_kwargs", "do_lower_case")
    transformer = {name: getattr(first, name, None) for name in names}
    embedding = message_settings(transformer, prompts)
    check_texts(f"the {name}", transformer, prompts, bool(embedding or request.embedding))
    poolings = [getattr(module, "pooling_mode", None) for module in library]
    embedding |= {"pooling": POOLINGS[pooling] for pooling in poolings if pooling in POOLINGS}  # noqa: B035  one at most
    after = nn.Sequential(*layers) if layers else request.after
    return replace(request, processor=processor, embedding={**embedding, **request.embedding}, after=after)


def check_scores(library: Any, model: Model) -> None:
    """Check that a model gives the score of the library for an image and a text."""
    image = ImageInput(seeded_noise(), "seeded noise")
    options: dict[str, Any] = {"show_progress_bar": False, "convert_to_tensor": True}
    if model.item_ndim > 1:
        texts = library.encode_query([_TEXT])
        images = library.encode_document([image.pil_image])
        theirs = float(library.similarity(texts, images))
    else:
        texts = library.encode([_TEXT], **options)
        images = library.encode([image.pil_image], **options)
        theirs = float(F.cosine_similarity(images.float(), texts.float()))

    with torch.no_grad():
        sides = model.image.encode(model.image.prepare([image])), model.text.encode(model.text.prepare([_TEXT]))
        ours = float(model.similarity(*sides))

    tolerance = _EXACT if model.precision == "float32" else _ROUNDED
    if not abs(ours - theirs) < tolerance * max(1.0, abs(theirs)):  # also fails for NaN
        raise CannotLoad(
            f"the {type(library).__name__} gives an image and a text the score {theirs:.5f}, and its parts give "
            f"{ours:.5f}, so they would explain another score: pass the prompts that it uses (image_prompt, "
            "text_prompt, instruction), or its encoder with a processor"
        )


class _Applied(nn.Module):
    """A module of the library after the encoder, as a function of embeddings."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, embedding: Tensor) -> Tensor:
        return self.module({"sentence_embedding": embedding})["sentence_embedding"]
