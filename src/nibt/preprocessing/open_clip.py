"""OpenCLIP's transforms and tokenisers, as the rest of the house wants them. They are handed in, not imported."""

from itertools import accumulate
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose
from torchvision.transforms.v2 import functional as transforms

from nibt.errors import Unsupported
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import TOKENISING, Tokens, truncation_note, words_by_marks, words_by_offsets
from nibt.preprocessing.images import Preparation
from nibt.preprocessing.resize import Resize

_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TO_TENSOR = ("ToTensor", "MaybeToTensor")  # torchvision's, and OpenCLIP's of it


def image_preparation(
    config: Any, transform: Any, resize: str | None, size: int | None, multiple: int | None
) -> Preparation:
    """The model's own ``transform``, which ``config`` (a ``PreprocessCfg``) describes, or ``whole`` images
    where the tower takes any size (a ``multiple`` is given).

    Raises:
        Unsupported: The tower takes images of one size only.

    """
    height, width = _pair(config.size)
    resample = _RESAMPLE.get(config.interpolation, Image.Resampling.BICUBIC)

    def normalise(image: Image.Image) -> Tensor:
        return transforms.normalize(_pixels(image), list(config.mean), list(config.std))

    if resize == "whole":
        if multiple is None:
            raise Unsupported(
                "this image tower takes images of one size only, so it cannot see them whole; leave resize out"
            )
        return Preparation(
            Resize("whole", size or height, size or width, multiple=multiple), normalise, normalise, resample
        )
    if size and size != height:
        raise Unsupported(f"this image tower takes images of {height} x {width} pixels (asked for {size})")
    own = Resize(config.resize_mode, height, width)
    return Preparation(own, _in_float32(transform), normalise, resample)


def _pixels(image: Image.Image) -> Tensor:
    """The pixels from 0 to 1."""
    return transforms.pil_to_tensor(image).to(torch.float32) / 255


def _in_float32(transform: Any) -> Any:
    """The same transform with pixels in float32, where ``ToTensor`` gives them torch's default dtype."""
    if not isinstance(transform, Compose):
        return transform
    return Compose([_pixels if type(step).__name__ in _TO_TENSOR else step for step in transform.transforms])


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def tokens(tokenizer: Any, caption: str, context: int) -> Tokens:
    """One caption, filled up to the context, by OpenCLIP's own tokeniser or a wrapped Hugging Face one."""
    if hasattr(tokenizer, "byte_decoder"):
        return _byte_pairs(tokenizer, caption, context)
    with TOKENISING:
        ids = tuple(tokenizer([caption], context_length=context)[0].tolist())
    inner = tokenizer.tokenizer
    clean = getattr(tokenizer, "clean_fn", lambda text: text)
    row = hugging_face.tokens(inner, caption, context, full=True, clean=clean)
    if len(ids) == len(row.ids) and all(
        own in (there, 0 if there == inner.sep_token_id else there) for own, there in zip(ids, row.ids, strict=True)
    ):
        return Tokens(ids, row.texts, row.explained, row.words, row.notes)  # ids: separators may be stripped to 0
    texts = inner.convert_ids_to_tokens(list(ids))
    special = set(inner.all_special_ids) - {inner.unk_token_id}
    explained = tuple(number not in special for number in ids)
    return Tokens(ids, tuple(texts), explained, words_by_marks(texts, explained), row.notes)


def pad(tokenizer: Any) -> tuple[int, str]:
    """The id and the text of what captions are filled up with."""
    if hasattr(tokenizer, "byte_decoder"):
        return 0, "<pad>"
    return tokenizer.tokenizer.pad_token_id, tokenizer.tokenizer.pad_token


def _byte_pairs(tokenizer: Any, caption: str, context: int) -> Tokens:
    """CLIP's byte pairs: the rows between the start and the end token are of words, zeros fill up."""
    ids = tokenizer([caption], context_length=context)[0].tolist()
    end = ids.index(tokenizer.eot_token_id)
    pieces = [tokenizer.decoder[number] for number in ids[:end]]
    texts = (*map(_visible(tokenizer), pieces), "<end_of_text>", *["<pad>"] * (context - end - 1))
    explained = tuple(0 < row < end for row in range(context))
    encoded = tokenizer.encode(caption)
    offsets = _offsets(tokenizer.clean_fn(caption), [tokenizer.decoder[number] for number in encoded])
    if offsets is None:
        words = words_by_marks((*pieces, *texts[end:]), explained)
    else:
        places = [(0, 0), *offsets[: end - 1], *[(0, 0)] * (context - end)]
        words = words_by_offsets(tokenizer.clean_fn(caption), texts, explained, places)
    length = len(encoded) + 2
    notes = (truncation_note(length, context),) if length > context else ()
    return Tokens(tuple(ids), texts, explained, words, notes)


def _offsets(text: str, pieces: list[str]) -> list[tuple[int, int]] | None:
    """Where in a text each piece lies. A sign of a piece is a byte of the text, and spaces are in none."""
    places = [place for place, sign in enumerate(text) if not sign.isspace() for _ in sign.encode()]
    ends = list(accumulate(len(piece.removesuffix("</w>")) for piece in pieces))
    if not ends or ends[-1] != len(places):
        return None
    return [(places[first], places[last - 1] + 1) for first, last in zip([0, *ends], ends, strict=False)]


def _decoded(tokenizer: Any, pieces: list[str]) -> str:
    text = "".join(pieces).removesuffix("</w>")
    return bytearray(tokenizer.byte_decoder[sign] for sign in text).decode("utf-8", errors="replace")


def _visible(tokenizer: Any) -> Any:
    """A piece as people read it; what spells only part of a sign stays as it is."""

    def show(piece: str) -> str:
        bare = piece.removesuffix("</w>")
        text = _decoded(tokenizer, [bare]) if all(sign in tokenizer.byte_decoder for sign in bare) else bare
        return piece if "\ufffd" in text else text

    return show
