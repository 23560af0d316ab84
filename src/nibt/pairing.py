"""What goes with what: single things and lists as pairs, which are of one kind.

A pair is a picture and a caption, two pictures or two captions. A string is a picture's path in first place and a
caption in second; whatever is no string says itself what it is.
"""

import os
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from nibt.errors import BadInput
from nibt.pair import (
    Caption,
    OpenFile,
    Pair,
    Picture,
    Twins,
    is_batch,
    listed,
    names_picture,
    read_caption,
    read_picture,
)
from nibt.types import Modality

_PICTURES = (os.PathLike, Image.Image, np.ndarray, Tensor, Picture, bytes, bytearray, memoryview)
_NOUNS: dict[Modality, str] = {"image": "picture", "text": "caption"}


def paired(first: Any, second: Any) -> tuple[list[Pair] | list[Twins], bool]:
    """Pairs of what was given, each a single one or a list; and whether any was a list.

    Raises:
        BadInput: a picture or a caption cannot be read, lists differ in length or hold both kinds, or a caption
            comes first and a picture second.

    """
    firsts, seconds = listed(first), listed(second)
    many = any(isinstance(one, list | tuple) or is_batch(one) for one in (first, second))
    if not firsts or not seconds:
        raise BadInput("there is nothing to explain: give at least one picture and one caption")
    kinds = _kind(firsts, "image"), _kind(seconds, "text")
    if kinds == ("text", "image"):
        raise BadInput("a caption came first and a picture second: swap them")
    if len(firsts) != len(seconds) and 1 not in (len(firsts), len(seconds)):
        raise BadInput(f"{len(firsts)} {_NOUNS[kinds[0]]}s and {len(seconds)} {_NOUNS[kinds[1]]}s are no pairs: give "
                       "as many of both, or one")  # fmt: skip
    _check_order(firsts[0], seconds[0])
    count = max(len(firsts), len(seconds))
    ones, others = _read(firsts, kinds[0], count), _read(seconds, kinds[1], count)
    if kinds[0] == kinds[1]:
        return [Twins(one, other) for one, other in zip(ones, others, strict=True)], many
    given = seconds * (count if len(seconds) == 1 else 1)
    return [Pair(*both, notes=_doubt(text)) for *both, text in zip(ones, others, given, strict=True)], many


def mixed(pair: Any, taker: str) -> Pair:
    """The pair, if it is of a picture and a caption.

    Raises:
        BadInput: it is not; the message names who takes no others.

    """
    if isinstance(pair, Pair) and isinstance(pair.picture, Picture) and isinstance(pair.caption, str):
        return pair
    items = pair.items if isinstance(pair, Pair | Twins) else (pair,)
    got = " and ".join("a string" if isinstance(item, str) else f"a {type(item).__name__}" for item in items)
    raise BadInput(f"{taker} takes pairs of a picture and a caption (got {got}); explain compares two pictures, or two "
                   "captions, too")  # fmt: skip


def _check_order(first: Any, second: Any) -> None:
    """Tell somebody who gave the caption first, and the picture second, both as strings."""
    both = isinstance(first, str) and isinstance(second, str)
    if both and not os.path.exists(first) and names_picture(second) and os.path.isfile(second):
        raise BadInput(f"the picture comes first: there is no picture {first!r}, and {second!r} is one; swap them")


def _kind(items: list[Any], string: Modality) -> Modality:
    """What all items of one place are; strings are of the place's own kind, and so is what its reader will refuse."""
    kinds: set[Modality] = {
        "text" if isinstance(item, Caption) else "image" if _is_picture(item) else string for item in items
    }
    if len(kinds) > 1:
        place = "first" if string == "image" else "second"
        raise BadInput(f"all that stands in {place} place must be of one kind, and this list holds pictures and "
                       f"captions (a string there is a {_NOUNS[string]})")  # fmt: skip
    return kinds.pop()


def _is_picture(item: Any) -> bool:
    """Whether it can be nothing but a picture."""
    return isinstance(item, (*_PICTURES, OpenFile))


def _read(items: list[Any], kind: Modality, count: int) -> list[Any]:
    """All items read; a single one is read once, and serves every pair."""
    read = [read_picture(item) if kind == "image" else read_caption(item) for item in items]
    return read * (count if len(read) == 1 else 1)


def _doubt(text: Any) -> tuple[str, ...]:
    """What is to be said of a caption that may have been meant as a picture."""
    if not (isinstance(text, str) and names_picture(text) and os.path.isfile(text)):
        return ()
    return (f"{text!r} was taken as a caption, though a picture has that name: to compare two pictures give "
            f"Path({text!r}), or --with-image",)  # fmt: skip
