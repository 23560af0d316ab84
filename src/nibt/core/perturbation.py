"""Hiding parts of an input, or disturbing all of it. Inputs are changed here and nowhere else, forward only."""

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nibt.core.quadrature import chunks
from nibt.core.side import Side
from nibt.data.units import Grid, Units
from nibt.errors import BadOption, Unsupported
from nibt.models._trace import Inputs
from nibt.models.base import ImageTower, TextTower
from nibt.types import PerExample, PerToken, PerUnit

HIDES = ("mean", "blur", "noise")
_WITHOUT_GRAPH = 4  # times as many states fit into the memory that those with a graph take
_SIGMA = 10 / 224  # of the shorter side: the widest blur of Fong and Vedaldi, ICCV 2017, arXiv 1704.03296
_BACKDROP, _SHAKEN = 1, 2  # so that what is drawn for one end is not drawn again for another


def masker(
    side: Side, units: Units, smooth: bool = False, hide: str = "mean", seed: int = 0
) -> Callable[[PerUnit], PerExample]:
    """The score of a side as a function of how much of each unit is kept: 1 all of it, 0 nothing.

    A stack of masks, (mask, batch, unit), gives (mask, batch).

    A pixel is scaled after normalising, so nothing is the mean colour, or fades into what ``backdrop`` puts there;
    ``smooth`` stretches the units over the pixels bilinearly, without seams. A word is faded as its embedding, toward
    the padding token's, before it gets its place, whatever ``hide`` says; special tokens stay whole.
    """
    tower, mode = side.tower, "bilinear" if smooth else "nearest"
    behind = backdrop(side, hide, seed) if isinstance(tower, ImageTower) else None

    def of_image(keep: Float[Tensor, "mask batch unit"]) -> Float[Tensor, "mask batch"]:
        assert isinstance(units, Grid)
        assert isinstance(tower, ImageTower)
        pixels = F.interpolate(units.unfold(keep), tower.extent(side.inputs), mode=mode)
        return score_of_pixels(side, pixels, behind)

    def of_text(keep: Float[Tensor, "mask batch unit"]) -> Float[Tensor, "mask batch"]:
        assert isinstance(tower, TextTower)
        assert side.inputs.words is not None
        explained = side.inputs.words.explained.to(keep.device)
        whole = torch.where(explained, keep[..., : explained.shape[1]], 1.0)
        with tower.blend_to_padding(whole.flatten(0, 1)):
            return side.score(tower.encode(_tiled(side, len(keep))).unflatten(0, keep.shape[:2]))

    part = of_image if isinstance(units, Grid) else of_text

    def score(keep: PerUnit) -> PerExample:
        stack = keep if keep.ndim == 3 else keep[None]
        found = torch.cat([part(stack[some]) for some in mask_chunks(side, len(stack))])
        return found if keep.ndim == 3 else found[0]

    return score


def mask_chunks(side: Side, count: int) -> Iterator[slice]:
    """Which of ``count`` masks go through the tower together, without a graph."""
    largest = max((stream for stream in side.trace.streams if stream is not None), key=Tensor.numel)
    return chunks(count, largest, _WITHOUT_GRAPH)


def score_of_pixels(
    side: Side, keep: Float[Tensor, "mask batch height width"], behind: Tensor | None = None
) -> Float[Tensor, "mask batch"]:
    """The score for each of a few masks over the pixels that the tower sees: 1 keeps a pixel, 0 is what stands
    ``behind``, as ``backdrop`` gives it (None: the mean colour).
    """
    assert isinstance(side.tower, ImageTower)
    tiled, kept = _tiled(side, len(keep)), keep.flatten(0, 1)
    seen = side.tower.mask_pixels(tiled, kept)
    if behind is not None:
        ground = replace(tiled, values=behind.repeat(len(keep), *(1,) * (behind.ndim - 1)))
        seen = replace(seen, values=seen.values + side.tower.mask_pixels(ground, 1 - kept).values)
    return side.score(side.tower.encode(seen).unflatten(0, keep.shape[:2]))


def backdrop(side: Side, hide: str, seed: int = 0) -> Tensor | None:
    """What shows where an image is hidden, laid out as the tower's inputs are; None is the mean colour.

    ``mean``: the mean colour, zero after normalising. ``blur``: the image itself, blurred by a Gaussian whose sigma
    is 10/224 of its shorter side. ``noise``: standard normal noise, after normalising, of each image's own.

    Raises:
        BadOption: There is no such way to hide.
        Unsupported: The tower is given patches, not an image that could be blurred.

    """
    check_hide(hide)
    values = side.inputs.values
    if hide == "mean":
        return None
    if hide == "noise":
        drawn = [
            item_rng(side.inputs, item, seed, _BACKDROP).standard_normal(values.shape[1:], np.float32)
            for item in range(len(values))
        ]
        return torch.from_numpy(np.stack(drawn)).to(values)
    if values.ndim != 4:
        raise Unsupported(
            f"a {type(side.tower).__name__} is given patches, not an image that could be blurred: hide "
            "must be mean or noise here"
        )
    from torchvision.transforms.functional import gaussian_blur

    sigma = _SIGMA * min(values.shape[-2:])
    return gaussian_blur(values, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2)


def check_hide(hide: str) -> None:
    """Whether there is such a way to hide.

    Raises:
        BadOption: There is not.

    """
    if hide not in HIDES:
        raise BadOption(f"hide must be one of {', '.join(HIDES)} (got {hide!r})")


def item_rng(inputs: Inputs, item: int, seed: int, *place: int) -> np.random.Generator:
    """A generator of an item's own: by the seed and a checksum of its pixels, or of the ids of its words, so that it
    depends neither on batch mates nor on what the caption is padded with.
    """
    values = inputs.values[item].cpu()
    if inputs.words is not None:
        values = values[inputs.words.explained[item].cpu()]
    return np.random.default_rng((seed, zlib.crc32(values.float().contiguous().numpy().tobytes()), *place))


@contextmanager
def perturbed(side: Side, radius: float, seed: int, sample: int) -> Iterator[Side]:
    """Inside, the same side of inputs that are disturbed a little: by uniform noise in [-radius, radius] on each
    normalised pixel, or on each number of a word's embedding before it gets its place, there times the root mean
    square of the caption's own. Each ``sample`` is another draw, of each item's own.

    Special tokens are left alone, and so is the blank caption: a word that is faded loses its noise with the rest.
    """
    lowest = sum(stream is None for stream in side.trace.streams)
    if isinstance(side.tower, ImageTower):
        noise = radius * _uniform(side, seed, sample, side.inputs.values.shape[1:])
        everywhere = noise.new_ones(len(noise), *side.tower.extent(side.inputs))
        added = side.tower.mask_pixels(replace(side.inputs, values=noise), everywhere).values  # none on padding
        yield replace(side, trace=side.tower.trace(replace(side.inputs, values=side.inputs.values + added), lowest))
        return
    with _embedded(side, _word_noise(side, radius, seed, sample)):
        yield replace(side, trace=side.tower.trace(side.inputs, lowest))


def _uniform(side: Side, seed: int, sample: int, shape: torch.Size) -> Tensor:
    """Draws in [-1, 1) for each item."""
    drawn = [
        item_rng(side.inputs, item, seed, _SHAKEN, sample).uniform(-1, 1, shape) for item in range(len(side.inputs))
    ]
    return torch.from_numpy(np.stack(drawn)).to(side.inputs.values)


def _word_noise(side: Side, radius: float, seed: int, sample: int) -> Float[Tensor, "batch token width"]:
    hidden, words = side.stem().hidden, side.inputs.words
    assert words is not None
    noise = torch.zeros_like(hidden)
    for item, explained in enumerate(words.explained[:, : hidden.shape[1]].to(hidden.device)):
        own = hidden[item, explained]
        drawn = item_rng(side.inputs, item, seed, _SHAKEN, sample).uniform(-1, 1, own.shape)
        noise[item, explained] = radius * own.square().mean().sqrt() * torch.from_numpy(drawn).to(own)
    return noise


@contextmanager
def _embedded(side: Side, noise: Float[Tensor, "batch token width"]) -> Iterator[None]:
    """Inside, the noise is added to the word embeddings of these captions, in whatever batch they come."""
    assert isinstance(side.tower, TextTower)
    known = side.inputs.values

    def add(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        ids = args[0]
        same = (ids[:, None] == known[:, : ids.shape[1]]).all(-1)
        return out + noise[same.int().argmax(1), : out.shape[1]] * same.any(1)[:, None, None]

    with side.tower.embedding(add):
        yield


def without_ends(side: Side, keep: PerToken, own: Bool[Tensor, "batch token"]) -> tuple[PerExample, PerExample]:
    """The scores of captions without their first and last token (start and end), whole, and with each word's row of
    the table of embeddings scaled once for every place at which the word stands, by what that place keeps: so a word
    that comes twice is scaled by the product. The tower reads whatever row it finds in such a caption.

    ``own`` is true on the rows of each caption itself. Captions go through one at a time, since padding would count.
    """
    tower, embeddings = side.tower, []
    assert isinstance(tower, TextTower)
    for item, rows in enumerate(own):
        places = rows.nonzero()[1:-1, 0]
        ids, kept = side.inputs.values[item, places], keep[item, places]
        scale = torch.where(ids[:, None] == ids, kept, 1.0).prod(1)
        extra = {name: value[item, places].expand(2, -1) for name, value in side.inputs.extra.items()}
        both = torch.stack([torch.ones_like(scale), scale])[..., None]
        with tower.embedding(lambda _, args, out, both=both: out * both.to(out)):
            embeddings.append(tower.encode(Inputs(ids.expand(2, -1), extra)))
    whole, scaled = side.score(torch.stack(embeddings, 1))
    return whole, scaled


def _tiled(side: Side, count: int) -> Inputs:
    """The inputs, as often as there are masks."""
    return side.inputs.take(list(range(len(side.inputs))) * count) if count > 1 else side.inputs
