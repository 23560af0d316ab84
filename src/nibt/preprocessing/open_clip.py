"""Adapters of OpenCLIP's transforms and tokenizers, which callers pass in."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nibt.errors import Unsupported
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import (
    TOKENIZER_LOCK,
    Tokenizer,
    Tokens,
    in_words,
    special_notes,
    truncation_note,
    words_by_marks,
    words_by_offsets,
)
from nibt.preprocessing.images import ImageProcessor, Preparation, Resize, height_and_width

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's images
_STD = (0.26862954, 0.26130258, 0.27577711)
_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TO_TENSOR = ("ToTensor", "MaybeToTensor")  # of torchvision and of OpenCLIP


def image_preparation(
    config: Mapping[str, Any],
    transform: ImageProcessor,
    resize: str | None,
    size: int | None,
    multiple: int | None,
) -> Preparation:
    """Return the preparation of a transform, or that of whole images, for which no transform is needed.

    Args:
        config: The entries of OpenCLIP's ``preprocess_cfg``. Without a mean and a standard deviation, they are CLIP's.
        transform: OpenCLIP's transform.
        resize: How images are resized.
        size: The side of the input, in place of that of the model.
        multiple: The number of which the sides of an image are multiples; None if the tower takes one size only.
    """
    height, width = height_and_width(config["size"])
    resample = _RESAMPLE.get(config.get("interpolation", "bicubic"), Image.Resampling.BICUBIC)
    normalize = _Normalized(tuple(config.get("mean", _MEAN)), tuple(config.get("std", _STD)))

    if size and size != height and multiple is not None and resize == "model":
        raise Unsupported(f"image_size must be {height} with resize=model (got {size}): leave one of the two out")
    hugging_face.check_resizing(resize, size, height, multiple if resize == "whole" else None)
    if resize == "whole":
        fit = Resize("whole", size or height, size or width, multiple=multiple or 1)
        return Preparation(fit, normalize, normalize, resample)

    from torchvision.transforms import CenterCrop, Compose, v2  # which takes seconds to import

    resizing = Resize(config["resize_mode"], height, width)
    hugging_face.check_sides(resizing)
    steps = [_pixels if type(step).__name__ in _TO_TENSOR else step for step in getattr(transform, "transforms", [])]
    # pixels are in float32 instead of torch's default dtype, which ``ToTensor`` uses
    process = Compose(steps) if isinstance(transform, Compose) else transform
    uncropped = [step for step in steps if not isinstance(step, CenterCrop | v2.CenterCrop)]
    without_crop = Compose(uncropped) if len(uncropped) < len(steps) else None
    return Preparation(resizing, process, normalize, resample, without_crop)


@dataclass(frozen=True)
class _Normalized:
    """Returns normalized pixels of an image, channel by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Image.Image) -> Tensor:
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (_pixels(image) - mean) / std


def _pixels(image: Image.Image) -> Tensor:
    """Return the pixels in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32) / 255


def tokens(tokenizer: Tokenizer, caption: str, context: int) -> Tokens:
    """Tokenize one caption, padded to the context, with OpenCLIP's tokenizer or a wrapped one of Hugging Face."""
    if hasattr(tokenizer, "byte_decoder"):
        return _byte_pairs(tokenizer, caption, context)

    with TOKENIZER_LOCK:
        ids = tuple(tokenizer([caption], context_length=context)[0].tolist())

    inner = tokenizer.tokenizer
    clean = getattr(tokenizer, "clean_fn", lambda text: text)
    row = hugging_face.tokens(inner, caption, context, full=True, clean=clean)

    # the wrapper may clean texts in a way of its own, and replace separators by 0; only then do its ids differ
    is_same = len(ids) == len(row.ids) and all(
        token == expected or (token == 0 and expected == inner.sep_token_id)
        for token, expected in zip(ids, row.ids, strict=True)
    )
    if is_same:
        return Tokens(ids, row.texts, row.explained, row.words, row.notes)

    texts = inner.convert_ids_to_tokens(list(ids))
    special = set(inner.all_special_ids) - {inner.unk_token_id}
    explained = tuple(token not in special for token in ids)
    words = words_by_marks(texts, explained)
    return Tokens(ids, tuple(texts), in_words(words, len(ids)), words, row.notes)


def _byte_pairs(tokenizer: Tokenizer, caption: str, context: int) -> Tokens:
    """Tokenize one caption with CLIP's byte pairs: words lie between the start and the end token, and 0 pads."""
    ids = tokenizer([caption], context_length=context)[0].tolist()
    text = tokenizer.clean_fn(caption)
    encoded = tokenizer.encode(caption)
    end = min(len(encoded) + 1, context - 1)  # an end token may be typed before
    pieces = [tokenizer.decoder[number] for number in ids[:end]]
    texts = (*(_display(tokenizer, piece) for piece in pieces), "<end_of_text>", *["<pad>"] * (context - end - 1))
    explained = tuple(0 < row < end for row in range(context))
    offsets = _offsets(text, [tokenizer.decoder[number] for number in encoded])
    if offsets is None:
        words = words_by_marks((*pieces, *texts[end:]), explained)
    else:
        positions = [(0, 0), *offsets[: end - 1], *[(0, 0)] * (context - end)]
        words = words_by_offsets(text, texts, explained, positions)

    length = len(encoded) + 2
    notes = [truncation_note(length, context)] if length > context else []
    special = [tokenizer.decoder[number] for number in tokenizer.all_special_ids]
    notes += special_notes(text, special)
    return Tokens(tuple(ids), texts, in_words(words, context), words, tuple(notes))


def _offsets(text: str, pieces: list[str]) -> list[tuple[int, int]] | None:
    """Return the span of each piece in a text; None if they do not fit.

    A character of a piece is a byte of the text. Pieces have no spaces.
    """
    positions = [
        position for position, character in enumerate(text) if not character.isspace() for _ in character.encode()
    ]
    ends = list(accumulate(len(piece.removesuffix("</w>")) for piece in pieces))
    if not ends or ends[-1] != len(positions):
        return None
    return [(positions[first], positions[last - 1] + 1) for first, last in zip([0, *ends], ends, strict=False)]


def _display(tokenizer: Tokenizer, piece: str) -> str:
    """Return a piece decoded for display; parts of a character stay unchanged."""
    bare = piece.removesuffix("</w>")
    codes = [tokenizer.byte_decoder.get(character) for character in bare]
    text = bare if None in codes else bytearray(codes).decode("utf-8", errors="replace")
    return piece if "\ufffd" in text else text
