"""Adapters of Hugging Face processors and tokenizers, which callers pass in."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.data.units import Word
from nibt.errors import BadOption, Unsupported
from nibt.options import LARGEST_SIDE, Keywords
from nibt.preprocessing.captions import (
    TOKENIZER_LOCK,
    Tokenizer,
    Tokens,
    dropped_notes,
    special_notes,
    truncation_note,
    unknown_notes,
    words_by_marks,
    words_by_offsets,
)
from nibt.preprocessing.images import ImageProcessor, Preparation, Resize
from nibt.records import is_finite

_SMALLEST = 1e-6  # by which colors are divided or multiplied
_LEAST_SQUASHED = 384  # from which on ConvNeXt's processor resizes both sides, and crops nothing
_MOST_PATCHES = 128  # along a side; the time of attention grows with the fourth power


def image_preparation(
    processor: ImageProcessor,
    resize: str | None,
    size: int | None,
    native: int,
    multiple: int | None,
    square: bool = False,
) -> Preparation:
    """Return the preparation of a processor, or that of whole images."""
    check_resizing(resize, size, native, multiple)
    run = partial(_pixels, processor)
    if resize == "whole":
        area = size or native
        fit = Resize("whole", area, area, multiple=multiple or 1)
    else:
        fit = _native_resize(processor, size)
        if size:
            run = partial(_pixels, processor, **_resized(processor, size))
        if square and getattr(processor, "do_pad", False):
            fit = replace(fit, way="corner")

    crops_apart = fit.edge and not getattr(processor, "crop_pct", None)
    uncropped = partial(run, do_center_crop=False) if crops_apart else None
    normalize = partial(_pixels, processor, do_resize=False, do_center_crop=False)
    return Preparation(fit, run, normalize, uncropped=uncropped, blank=blank_value(processor))


def check_resizing(resize: str | None, size: int | None, native: int, multiple: int | None) -> None:
    """Check that a tower which takes images of one size only gets them, and others not too many patches."""
    if multiple is not None:
        most = _MOST_PATCHES * multiple
        if size and size > most:
            raise BadOption(f"image_size must be at most {most:,} for patches of {multiple} pixels (got {size:,})")
        return

    if resize == "whole":
        raise Unsupported(
            "resize must not be whole for this image tower, which takes images of one size only: leave resize out"
        )
    if size and size != native:
        raise Unsupported(f"image_size must be {native} for this image tower (got {size}): leave it out")


def blank_value(processor: ImageProcessor) -> float:
    """Return the value of the pixels of a blank image: the mean color, or gray if there is no normalization."""
    check_numbers(processor)
    if getattr(processor, "do_normalize", True):
        return 0.0
    scale = processor.rescale_factor if getattr(processor, "do_rescale", True) else 1.0
    gray = 127.5 * scale
    return gray - 1 if getattr(processor, "rescale_offset", False) else gray


_SETTINGS = (("image_mean", "do_normalize"), ("image_std", "do_normalize"), ("rescale_factor", "do_rescale"))


def check_numbers(processor: ImageProcessor) -> None:
    """Check that the colors of images stay finite: an embedding of NaN would be blamed on the weights."""
    for name, used in _SETTINGS:
        value = getattr(processor, name, None)
        if value is None or not getattr(processor, used, True):
            continue

        numbers = value if isinstance(value, list | tuple) else [value]
        is_divisor = name != "image_mean"
        if not all(is_finite(number) and not (is_divisor and abs(number) < _SMALLEST) for number in numbers):
            above = f", not below {_SMALLEST:g}" if is_divisor else ""
            raise Unsupported(
                f"{name} of the image processor must have finite numbers{above} (got {value!r:.60}): correct it"
            )


def _pixels(processor: ImageProcessor, image: Image.Image, **options: object) -> Float[Tensor, "channel height width"]:
    return processor(images=image, return_tensors="pt", **options)["pixel_values"][0]


def _side(box: object, name: str) -> int | None:
    return box.get(name) if isinstance(box, dict) else getattr(box, name, None)


def _native_resize(processor: ImageProcessor, size: int | None) -> Resize:
    """Return how a processor resizes images, to at most the size that a tower may be given."""
    resize = _resize_of(processor, size)
    check_sides(resize)
    return resize


def check_sides(resize: Resize) -> None:
    """Check that images are prepared in a size that a tower may be given."""
    for side in (resize.height, resize.width, resize.edge or 1):
        if not 1 <= side <= LARGEST_SIDE:
            raise Unsupported(
                f"the image processor must give images with sides of 1 to {LARGEST_SIDE:,} pixels (got {side:,}): "
                "correct the sizes in its file"
            )


def _resize_of(processor: ImageProcessor, size: int | None) -> Resize:
    """Return how a processor resizes images, with another size of the input if one is given."""
    _check_fixed_size(processor)
    box = processor.size
    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None

    edge = _side(box, "shortest_edge")
    if edge and getattr(processor, "crop_pct", None):  # of ConvNeXt and ResNet
        return _cropped_share(size or int(edge), processor.crop_pct)
    if edge and crop:
        height = size or _side(crop, "height") or edge
        width = size or _side(crop, "width") or edge
        return Resize("shortest", int(height), int(width), edge=size or edge)

    height = _side(box, "height")
    width = _side(box, "width")
    if not (height and width):
        raise Unsupported(f"the image processor must crop or resize to a fixed size (got size {box})")
    if crop and height == width and _side(crop, "height") != height:
        down = size or _side(crop, "height") or height
        across = size or _side(crop, "width") or width
        return Resize("squash", down, across, edge=size or height)
    return Resize("squash", size or height, size or width)


def _cropped_share(side: int, share: float) -> Resize:
    """Return how ConvNeXt and ResNet resize: small inputs are a share of a larger image, others all of it."""
    if side >= _LEAST_SQUASHED:
        return Resize("squash", side, side)
    return Resize("shortest", side, side, edge=int(side / share))


def _check_fixed_size(processor: ImageProcessor) -> None:
    """Check that a processor of images resizes all of them to one size."""
    if not hasattr(processor, "size"):
        raise BadOption(
            f"processor must have an image processor of Transformers (got a {type(processor).__name__}): pass "
            "AutoProcessor.from_pretrained(...)"
        )
    has_other_crop = getattr(processor, "crop_pct", None) and not _side(processor.size, "shortest_edge")
    if getattr(processor, "do_resize", True) is False or has_other_crop:
        raise Unsupported(
            "the image processor must resize images to a fixed size (got do_resize=false or crop_pct), else patches "
            "cannot be placed on them"
        )


def native_size(processor: ImageProcessor) -> int:
    """Return the height of the images that a processor gives."""
    return _native_resize(processor, None).height


def _resized(processor: ImageProcessor, size: int) -> Keywords:
    box = {"height": size, "width": size}
    fit = _native_resize(processor, size)
    if getattr(processor, "crop_pct", None):
        return {"size": {"shortest_edge": size}}
    if fit.way == "shortest":
        return {"size": {"shortest_edge": size}, "crop_size": box}
    return {"size": box, "crop_size": box} if fit.edge else {"size": box}


def tokens(
    tokenizer: Tokenizer, caption: str, context: int, full: bool, clean: Callable[[str], str] = lambda text: text
) -> Tokens:
    """Tokenize one caption."""
    text = clean(caption)
    options = {"truncation": True, "max_length": context, "padding": "max_length" if full else False}
    if tokenizer.is_fast:
        options["return_offsets_mapping"] = True

    # once more without truncation, for the note on what is cut off; Transformers would print a warning of its own
    with TOKENIZER_LOCK:
        encoded = tokenizer(text, return_special_tokens_mask=True, **options)
        length = len(tokenizer(text, verbose=False)["input_ids"])

    ids = encoded["input_ids"]
    texts = tokenizer.convert_ids_to_tokens(ids)
    explained = [not flag for flag in encoded["special_tokens_mask"]]
    dropped = []
    if tokenizer.is_fast:
        words = words_by_offsets(text, texts, explained, encoded["offset_mapping"])

        # what was cut off has a note of its own
        spelled = list(itertools.compress(encoded["offset_mapping"], explained))
        seen = text if length <= context or not spelled else text[: spelled[-1][1]]
        dropped = dropped_notes(seen, spelled)
    else:  # whose mask omits padding, so ids count, too
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        explained = [flag and number not in special for flag, number in zip(explained, ids, strict=True)]
        words = words_by_marks(texts, explained)

    notes = [truncation_note(length, context)] if length > context else []
    notes += [*_token_notes(tokenizer, text, words, ids), *dropped]
    rows = {row for word in words for row in word.tokens}  # blanks at the end of a caption belong to no word
    in_words = tuple(row in rows for row in range(len(ids)))
    mask = tuple(encoded.get("attention_mask", ()))
    return Tokens(tuple(ids), tuple(texts), in_words, words, tuple(notes), mask)


def _token_notes(tokenizer: Tokenizer, text: str, words: Sequence[Word], ids: Sequence[int]) -> list[str]:
    """Return warnings about special tokens that are typed, and about words that the tokenizer does not know."""
    typed = special_tokens(tokenizer, len(tokenizer))
    untyped = [word for word in words if word.text not in typed]
    return [*special_notes(text, typed), *unknown_notes(untyped, ids, tokenizer.unk_token_id)]


@lru_cache(maxsize=8)
def special_tokens(tokenizer: Tokenizer, length: int) -> set[str]:
    """Return the texts of the special tokens: start, end, padding, images; a tokenizer gets longer if one is added."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return {*map(str, tokenizer.all_special_tokens), *(str(token) for token in added if token.special)}
