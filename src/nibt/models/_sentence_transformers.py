"""Models of sentence-transformers in memory: what they apply to embeddings, their prompts, and a check against them."""

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.data.images import ImageInput
from nibt.errors import CannotLoad
from nibt.models._checkpoint import Truncated, UnitLength, check_texts, dense_folders
from nibt.models._checks import seeded_noise
from nibt.models._request import Request
from nibt.models._vision_language.prompts import POOLINGS, message_settings
from nibt.models.base import Model

_TEXT = "Two red cars and a cat"
_EXACT, _ROUNDED = 1e-4, 2e-2  # how far scores may differ: of float32, and of half precision, in which only it computes


def is_library(module: Any) -> bool:
    """Return whether a module is a model of sentence-transformers."""
    return any(base.__module__.startswith("sentence_transformers.base.model") for base in type(module).__mro__)


def request_of(library: Any, request: Request) -> Request:
    """Return the request with the processor of a model of sentence-transformers, its prompts and its later modules."""
    first, name = library[0], f"{type(library).__name__} in memory"
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
        texts, images = library.encode_query([_TEXT]), library.encode_document([image.pil_image])
        theirs = float(library.similarity(texts, images))
    else:
        texts, images = library.encode([_TEXT], **options), library.encode([image.pil_image], **options)
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
