"""Captions, and pairs of inputs.

A pair is an image and a caption, two images or two captions. A string in first place is the path of an image, and a
string in second place is a caption. Other types have one meaning in both places.
"""

import json
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Generic, TypeAlias, TypeVar, overload

import numpy as np

from nibt.data.images import (
    ImageInput,
    ImageSource,
    NamedImage,
    is_batch,
    is_image_name,
    looks_like_image,
    names_image,
    read_image,
)
from nibt.data.objects import Object, Span, check_labels, check_objects, check_spans
from nibt.errors import BadInput
from nibt.io import unicode_text
from nibt.types import Modality


@dataclass(frozen=True)
class Caption:
    """A caption, for functions such as ``compare`` that could read a string as the path of an image."""

    text: str


@dataclass(frozen=True)
class Pair:
    """An image and a caption.

    Attributes:
        image: The image.
        caption: The caption.
        objects: The annotated objects of the image.
        absent: The spans of the caption that name objects which are not in the image.
        notes: Warnings about how the pair was read.
        labels: The labels of the data set; empty if it has none.
        label: The position of the label of the caption in ``labels``; None if the caption is not about one of them.
        label_map: The position of the label of each pixel in ``labels``, (height, width), -1 on pixels that the
            annotators ignored; None if unknown.
    """

    image: ImageInput
    caption: str
    objects: tuple[Object, ...] = ()
    absent: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = field(default=(), repr=False)
    label: int | None = None
    label_map: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.objects:
            check_objects(self.objects, self.image.size, self.caption)
        if self.absent:
            check_spans(self.caption, self.absent, "the spans of absent words")
        if self.labels or self.label is not None or self.label_map is not None:
            check_labels(self.labels, self.label, self.label_map, self.image.size)

    @property
    def items(self) -> tuple[ImageInput, str]:
        """The first and the second input."""
        return self.image, self.caption


@dataclass(frozen=True)
class SameModalityPair:
    """Two images, or two captions, which are compared."""

    first: ImageInput | str
    second: ImageInput | str
    notes: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[ImageInput | str, ImageInput | str]:
        """The first and the second input."""
        return self.first, self.second


_T = TypeVar("_T")
AnyPair: TypeAlias = Pair | SameModalityPair
_Pair = TypeVar("_Pair", bound=AnyPair)
GivenPair: TypeAlias = Pair | tuple[ImageSource, str | Caption] | tuple[ImageSource, str | Caption, np.ndarray]
"""A pair, or an image and a caption, perhaps with a mask of what the caption names."""
Text: TypeAlias = str | Caption
Texts: TypeAlias = Text | Sequence[Text]
Item: TypeAlias = ImageSource | Caption
Items: TypeAlias = Item | Sequence[Item]
"""Images or captions; a string is one or the other, by its place or by a file of that name."""


def modality(item: ImageInput | str) -> Modality:
    """Return the modality of an input of a pair."""
    return "text" if isinstance(item, str) else "image"


def pairs_hash(pairs: Sequence[Pair]) -> str:
    """Compute a digest of pairs, 16 hexadecimal digits, from their images and captions."""
    plain = [(pair.image.digest, pair.caption) for pair in pairs]
    return sha256(json.dumps(plain).encode()).hexdigest()[:16]


MOST_CHARACTERS = 100_000


def too_long(name: str, text: str) -> str:
    """Return the message that a text is longer than any that a tokenizer reads in a reasonable time."""
    return f"the {name} must have at most {MOST_CHARACTERS:,} characters (got {len(text):,}): shorten it"


_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Invisible characters whose category in Unicode is that of letters, marks or symbols."""
_SELECTORS = {*map(chr, range(0x180B, 0x1810)), *map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0))}
"""The selectors of variants, which change the character before them."""


def is_visible(text: str) -> bool:
    """Return whether a text has a character that can be seen: no blank, control character or one without a width."""
    return any(
        unicodedata.category(character)[0] not in "CZ" and character not in _FILLERS and character not in _SELECTORS
        for character in text
    )


def read_caption(caption: str | Caption, name: str = "caption") -> str:
    """Return the text of a caption, or of words that are named otherwise, unchanged."""
    caption = caption.text if isinstance(caption, Caption) else caption
    if type(caption) is not str or not caption.isascii():  # ASCII has no surrogates to look for
        caption = unicode_text(name, caption)
    if len(caption) > MOST_CHARACTERS:
        raise BadInput(too_long(name, caption))
    if not is_visible(caption):
        what = "is blank" if not caption.strip() else "has only invisible characters"
        raise BadInput(f"the {name} {what} (got {caption!r}): give at least one word")
    return caption


def read_item(item: NamedImage | str | Caption) -> ImageInput | str:
    """Return an image, or the text of a caption; a string that names a file, an address or a sample is an image."""
    if isinstance(item, Caption) or (isinstance(item, str) and not is_image_name(item)):
        return read_caption(item)
    return read_image(item)


def caption_notes(caption: str) -> tuple[str, ...]:
    """Return a warning if a caption has control characters, which are invisible but may reach the model."""
    controls = sorted(
        {character for character in caption if unicodedata.category(character) == "Cc" and not character.isspace()}
    )
    if not controls:
        return ()

    codes = ", ".join(f"U+{ord(character):04X}" for character in controls)
    return (f"the caption has control characters ({codes}): the model may see them",)


def as_list(value: object) -> list[Any]:
    """Return the items of a list, a tuple or a batch of images; other values become a list of one item."""
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, list | tuple) or is_batch(value) else [value]


def repeated(values: Sequence[object]) -> int | None:
    """Return the place of the first value that also stands before it; None if each is there once.

    >>> repeated(["a", "b", "a"]), repeated(["a", "b"])
    (2, None)
    """
    return next((place for place, value in enumerate(values) if value in values[:place]), None)


NOUNS: dict[Modality, str] = {"image": "image", "text": "caption"}


def side_title(name: str, modality: Modality) -> str:
    """Return the name of a side of a result in a sentence.

    >>> side_title("text", "text"), side_title("against", "text"), side_title("first", "image")
    ('text side', 'other caption', 'first image')
    """
    if name in ("image", "text"):
        return f"{name} side"
    return f"{'other' if name == 'against' else name} {NOUNS[modality]}"


@dataclass(frozen=True)
class RequestedPairs(Generic[_Pair]):
    """The pairs of a call.

    Attributes:
        pairs: The pairs, at least one.
        is_list: Whether a list of results is returned, since either input was a list.
    """

    pairs: list[_Pair]  # of one type
    is_list: bool

    def as_requested(self, results: list[_T]) -> _T | list[_T]:
        """Return the results of all pairs, or the one that was asked for."""
        return results if self.is_list else results[0]


@overload
def make_pairs(first: Items, second: Items) -> RequestedPairs[AnyPair]: ...
@overload
def make_pairs(first: Items, second: Items, caller: str) -> RequestedPairs[Pair]: ...
def make_pairs(first: Items, second: Items, caller: str = "") -> RequestedPairs[Any]:
    """Make pairs of two inputs or lists of inputs.

    Strings have the modality of their place, and so do values of other types, which fail when they are read. A
    ``caller`` takes no pairs but those of an image and a caption.
    """
    firsts = as_list(first)
    seconds = as_list(second)
    if not firsts or not seconds:
        raise BadInput(
            f"there is nothing to explain (got {len(firsts)} and {len(seconds)} inputs): give at least one of each"
        )

    modalities = _modality_of(firsts, "first", "image"), _modality_of(seconds, "second", "text")
    if modalities == ("text", "image"):
        raise BadInput("a caption came first and an image second: swap them")
    if caller and modalities != ("image", "text"):
        raise _no_image_and_caption(caller, [firsts[0], seconds[0]])

    count = max(len(firsts), len(seconds))
    if min(len(firsts), len(seconds)) not in (1, count):
        raise BadInput(
            f"{len(firsts)} {NOUNS[modalities[0]]}s and {len(seconds)} {NOUNS[modalities[1]]}s cannot be paired: give "
            "as many of both, or one of either"
        )

    _check_order(firsts[0], seconds[0])

    read_firsts = _read(firsts, modalities[0], count)
    read_seconds = _read(seconds, modalities[1], count)
    is_list = count > 1 or first is not firsts[0] or second is not seconds[0]  # a list of one asks for a list, too
    if modalities[0] == modalities[1]:
        return RequestedPairs(list(map(SameModalityPair, read_firsts, read_seconds)), is_list)

    notes = [_named_image_notes(text) for text in seconds]
    if len(notes) == 1:
        notes *= count
    pairs = [
        Pair(image, caption, notes=of_pair)
        for image, caption, of_pair in zip(read_firsts, read_seconds, notes, strict=True)
    ]
    return RequestedPairs(pairs, is_list)


def _modality_of(items: Sequence[object], place: str, of_strings: Modality) -> Modality:
    """Return the modality of the inputs in first or second place, which must be the same for all."""
    modalities: set[Modality] = set()
    for item in items:
        if isinstance(item, Caption):
            modalities.add("text")
        elif isinstance(item, NamedImage):
            modalities.add("image")
        else:
            modalities.add(of_strings)

    if len(modalities) > 1:
        a_string = "an image" if of_strings == "image" else "a caption"
        raise BadInput(
            f"the list in {place} place must have images only or captions only (a string in this place is {a_string})"
        )
    return modalities.pop()


def _check_order(image: object, text: object) -> None:
    """Check that a caption and the path of an image were not swapped."""
    if not isinstance(image, str) or not isinstance(text, str):
        return
    if os.path.isfile(text) and not os.path.exists(image) and names_image(text):
        raise BadInput(f"the image must come first ({image!r} is not an image, and {text!r} is one): swap them")


def _read(items: Sequence[Any], modality: Modality, count: int) -> list[Any]:
    """Read inputs of one modality; a single one is repeated ``count`` times."""
    read = [read_image(item) if modality == "image" else read_caption(item) for item in items]
    return read * count if len(read) == 1 else read


def _named_image_notes(text: object) -> tuple[str, ...]:
    """Return a warning about a caption that is the name of an image."""
    if not isinstance(text, str) or not looks_like_image(text):
        return ()
    if names_image(text) and not os.path.isfile(text):
        return ()
    return (
        f"{text!r} is used as a caption, although it is the name of an image: to compare two images, use nibt.compare "
        "or --compare",
    )


def image_text_pairs(pairs: object, caller: str) -> list[Pair]:
    """Return pairs as a list if each is an image and a caption, of which tuples are read."""
    if isinstance(pairs, str | Mapping) or not isinstance(pairs, Iterable) or getattr(pairs, "ndim", 1) == 0:
        raise BadInput(f"{caller} takes a list of pairs of an image and a caption (got {type(pairs).__name__})")

    read = []
    for pair in map(_pair, pairs):
        if isinstance(pair, Pair) and isinstance(pair.image, ImageInput) and isinstance(pair.caption, str):
            read.append(pair)
            continue
        if isinstance(pair, Pair) and isinstance(pair.caption, str) and isinstance(pair.image, str | os.PathLike):
            name = os.fspath(pair.image)
            raise BadInput(
                f"{caller} takes pairs whose images were read (got the path {name!r}): give "
                "nibt.data.images.read_image(path)"
            )
        if isinstance(pair, Pair | SameModalityPair):
            raise _no_image_and_caption(caller, pair.items)
        raise BadInput(
            f"{caller} takes pairs of an image and a caption: each a Pair, or a tuple of both and perhaps a mask (got "
            f"{_named_type(pair)}{f' of {len(pair)}' if isinstance(pair, tuple) else ''})"
        )

    return read


def _pair(item: object) -> object:
    """Return a pair of a tuple of an image, a caption and perhaps a mask."""
    if not isinstance(item, tuple) or len(item) not in (2, 3):
        return item
    image = read_image(item[0])
    caption = read_caption(item[1])
    return Pair(image, caption, tuple(Object("mask", None, mask, ((0, len(caption)),)) for mask in item[2:]))


def _no_image_and_caption(caller: str, items: Sequence[object]) -> BadInput:
    got = " and ".join(map(_named_type, items))
    return BadInput(
        f"{caller} takes pairs of an image and a caption, which is a string (got {got}); to compare two images or two "
        "captions, use nibt.compare"
    )


def _named_type(item: object) -> str:
    return {str: "a string", ImageInput: "an image"}.get(type(item), f"a {type(item).__name__}")
