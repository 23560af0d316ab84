"""Captions, and what goes with what: single inputs and lists as pairs, which are of one kind.

A pair is an image and a caption, two images or two captions. A string is an image's path in first place and a
caption in second; whatever is no string says itself what it is.
"""

import json
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from nibt.data.images import ImageInput, OpenFile, is_batch, names_image, read_image
from nibt.errors import BadInput
from nibt.types import Modality

Box: TypeAlias = tuple[int, int, int, int]
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Caption:
    """A text that is said to be a caption: in first place, where a string is an image's path, two captions are
    compared.
    """

    text: str


@dataclass(frozen=True)
class Object:
    """One object of an image whose place is known, and where the caption names it.

    ``box`` is left, top, width and height in pixels of the upright image; ``mask`` is true on its pixels, of
    the image's height and width, where one is known; ``spans`` are the first and the last-plus-one character of
    each place in the caption that names it.
    """

    name: str
    box: Box
    mask: np.ndarray | None = field(default=None, repr=False)
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Pair:
    """What is explained: an image and a caption.

    Where the truth is known, ``objects`` are those of the image, and ``absent`` are the places in the caption
    that name what is not there. ``notes`` say what its reader ought to know of how it was read.
    """

    image: ImageInput
    caption: str
    objects: tuple[Object, ...] = ()
    absent: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[ImageInput, str]:
        """What stands in its two places."""
        return self.image, self.caption


@dataclass(frozen=True)
class SameModalityPair:
    """What is compared: two images, or two captions."""

    first: ImageInput | str
    second: ImageInput | str
    notes: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[ImageInput | str, ImageInput | str]:
        """What stands in its two places."""
        return self.first, self.second


def modality(item: ImageInput | str) -> Modality:
    """What one of a pair is."""
    return "text" if isinstance(item, str) else "image"


def pairs_hash(pairs: Sequence[Pair]) -> str:
    """16 hexadecimal digits that tell these pairs from others: by their images and their captions."""
    plain = [(pair.image.digest, pair.caption) for pair in pairs]
    return sha256(json.dumps(plain).encode()).hexdigest()[:16]


def read_caption(caption: str | Caption) -> str:
    """The caption as it is, if it says anything.

    Raises:
        BadInput: It is no string, or has no visible character.

    """
    caption = caption.text if isinstance(caption, Caption) else caption
    if not isinstance(caption, str):
        raise BadInput(f"a caption must be a string (got {type(caption).__name__})")
    if not any(unicodedata.category(sign)[0] not in "CZ" for sign in caption):
        what = "is blank" if not caption.strip() else "has only control characters and blanks"
        raise BadInput(f"the caption {what} (got {caption!r}): give at least one word")
    return caption


def caption_notes(caption: str) -> tuple[str, ...]:
    """What a reader should know of a caption: control characters in it are invisible, and the model may see them."""
    controls = sorted({sign for sign in caption if unicodedata.category(sign) == "Cc" and not sign.isspace()})
    if not controls:
        return ()
    return (
        f"the caption has control characters ({', '.join(f'U+{ord(sign):04X}' for sign in controls)}): the model "
        "may see them",
    )


def as_list(value: Any) -> list[Any]:
    """The items of a list, a tuple or a batch of images; anything else as a list of one."""
    return list(value) if isinstance(value, list | tuple) or is_batch(value) else [value]


_IMAGES = (os.PathLike, Image.Image, np.ndarray, Tensor, ImageInput, bytes, bytearray, memoryview)
_NOUNS: dict[Modality, str] = {"image": "image", "text": "caption"}
_ARTICLES: dict[Modality, str] = {"image": "an", "text": "a"}


def make_pairs(first: Any, second: Any) -> tuple[list[Pair] | list[SameModalityPair], bool]:
    """Pairs of what was given, each a single one or a list; and whether any was a list.

    Raises:
        BadInput: An image or a caption cannot be read, lists differ in length or hold both kinds, or a caption
            comes first and an image second.

    """
    firsts, seconds = as_list(first), as_list(second)
    many = any(isinstance(one, list | tuple) or is_batch(one) for one in (first, second))
    if not firsts or not seconds:
        raise BadInput("there is nothing to explain: give at least one image and one caption")
    kinds = _kind(firsts, "image"), _kind(seconds, "text")
    if kinds == ("text", "image"):
        raise BadInput("a caption came first and an image second: swap them")
    if len(firsts) != len(seconds) and 1 not in (len(firsts), len(seconds)):
        raise BadInput(
            f"{len(firsts)} {_NOUNS[kinds[0]]}s and {len(seconds)} {_NOUNS[kinds[1]]}s are no pairs: give "
            "as many of both, or one"
        )
    _check_order(firsts[0], seconds[0])
    count = max(len(firsts), len(seconds))
    ones, others = _read(firsts, kinds[0], count), _read(seconds, kinds[1], count)
    if kinds[0] == kinds[1]:
        return [SameModalityPair(one, other) for one, other in zip(ones, others, strict=True)], many
    given = seconds * (count if len(seconds) == 1 else 1)
    return [Pair(*both, notes=_ambiguity_warning(text)) for *both, text in zip(ones, others, given, strict=True)], many


def require_image_text(pair: Any, taker: str) -> Pair:
    """The pair, if it is of an image and a caption.

    Raises:
        BadInput: It is not; the message names who takes no others.

    """
    if isinstance(pair, Pair) and isinstance(pair.image, ImageInput) and isinstance(pair.caption, str):
        return pair
    items = pair.items if isinstance(pair, Pair | SameModalityPair) else (pair,)
    names = {str: "a string", ImageInput: "an image"}
    got = " and ".join(names.get(type(item), f"a {type(item).__name__}") for item in items)
    raise BadInput(
        f"{taker} takes pairs of an image and a caption (got {got}); explain compares two images, or two captions, too"
    )


def _check_order(first: Any, second: Any) -> None:
    """Tell somebody who gave the caption first, and the image second, both as strings."""
    both = isinstance(first, str) and isinstance(second, str)
    if both and not os.path.exists(first) and names_image(second) and os.path.isfile(second):
        raise BadInput(f"the image comes first: there is no image {first!r}, and {second!r} is one; swap them")


def _kind(items: list[Any], string: Modality) -> Modality:
    """What all items of one place are; strings are of the place's own kind, and so is what its reader will refuse."""
    kinds: set[Modality] = {
        "text" if isinstance(item, Caption) else "image" if _is_image(item) else string for item in items
    }
    if len(kinds) > 1:
        place = "first" if string == "image" else "second"
        raise BadInput(
            f"all that stands in {place} place must be of one kind, and this list holds images and "
            f"captions (a string there is {_ARTICLES[string]} {_NOUNS[string]})"
        )
    return kinds.pop()


def _is_image(item: Any) -> bool:
    """Whether it can be nothing but an image."""
    return isinstance(item, (*_IMAGES, OpenFile))


def _read(items: list[Any], kind: Modality, count: int) -> list[Any]:
    """All items read; a single one is read once, and serves every pair."""
    read = [read_image(item) if kind == "image" else read_caption(item) for item in items]
    return read * (count if len(read) == 1 else 1)


def _ambiguity_warning(text: Any) -> tuple[str, ...]:
    """What is to be said of a caption that may have been meant as an image."""
    if not (isinstance(text, str) and names_image(text) and os.path.isfile(text)):
        return ()
    return (
        f"{text!r} was taken as a caption, though an image has that name: to compare two images give "
        f"Path({text!r}), or --compare-image",
    )
