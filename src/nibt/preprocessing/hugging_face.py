"""Hugging Face processors and tokenisers, as the rest of the house wants them. They are handed in, not imported."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.errors import Unsupported
from nibt.preprocessing.captions import TOKENISING, Tokens, truncation_note, words_by_marks, words_by_offsets
from nibt.preprocessing.images import Preparation
from nibt.preprocessing.resize import Resize


def image_preparation(processor: Any, resize: str | None, size: int | None, native: int, multiple: int) -> Preparation:
    """The processor's own way, or ``whole`` images of about ``size`` x ``size`` pixels."""
    run = partial(_pixels, processor)
    if resize == "whole":
        area = size or native
        fitted = Resize("whole", area, area, multiple=multiple)
    else:
        fitted = _own_fit(processor, size)
        if size:
            run = partial(_pixels, processor, **_resized(processor, size))
    return Preparation(fitted, run, partial(_pixels, processor, do_resize=False, do_center_crop=False))


def _pixels(processor: Any, image: Image.Image, **options: Any) -> Float[Tensor, "channel height width"]:
    return processor(images=image, return_tensors="pt", **options)["pixel_values"][0]


def _side(box: Any, name: str) -> int | None:
    return box.get(name) if isinstance(box, dict) else getattr(box, name, None)


def _own_fit(processor: Any, size: int | None) -> Resize:
    box, crop = processor.size, getattr(processor, "crop_size", None)
    edge = _side(box, "shortest_edge")
    if getattr(processor, "do_center_crop", False) and edge and crop:
        height, width = size or _side(crop, "height"), size or _side(crop, "width")
        return Resize("shortest", int(height or edge), int(width or edge), edge=size or edge)
    height, width = _side(box, "height"), _side(box, "width")
    if not (height and width):
        raise Unsupported(f"the image processor resizes to {box}, which is neither a crop nor a fixed size")
    return Resize("squash", size or height, size or width)


def _resized(processor: Any, size: int) -> dict[str, Any]:
    if _own_fit(processor, size).way == "shortest":
        return {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    return {"size": {"height": size, "width": size}}


def tokens(
    tokenizer: Any, caption: str, context: int, full: bool, clean: Callable[[str], str] = lambda text: text
) -> Tokens:
    """One caption through a tokeniser, padded to ``context`` where the model wants all captions ``full``."""
    text = clean(caption)
    options = {"truncation": True, "max_length": context, "padding": "max_length" if full else False}
    if tokenizer.is_fast:
        options["return_offsets_mapping"] = True
    with TOKENISING:
        encoded = tokenizer(text, return_special_tokens_mask=True, **options)
        length = len(tokenizer(text, verbose=False)["input_ids"])
    ids = encoded["input_ids"]
    texts = tokenizer.convert_ids_to_tokens(ids)
    explained = _explained(tokenizer, ids, encoded["special_tokens_mask"])
    if tokenizer.is_fast:
        words = words_by_offsets(text, texts, explained, encoded["offset_mapping"])
    else:
        words = words_by_marks(texts, explained)
    notes = (truncation_note(length, context),) if length > context else ()
    return Tokens(tuple(ids), tuple(texts), tuple(explained), words, notes)


def _explained(tokenizer: Any, ids: Sequence[int], mask: Sequence[int]) -> list[bool]:
    """Rows of words. Slow tokenisers leave padding out of their mask, so ids are looked at, too."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    if tokenizer.is_fast:
        return [not flag for flag in mask]
    return [not flag and number not in special for flag, number in zip(mask, ids, strict=True)]


def attention_mask(ids: Tensor, tokens: Sequence[Tokens]) -> Tensor:
    """1 for the rows of each caption's own tokens, 0 for what it was padded with."""
    lengths = torch.tensor([len(row.ids) for row in tokens], device=ids.device)
    return (torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]).long()
