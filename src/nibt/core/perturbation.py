"""Perturbation of inputs: removal of units and noise, forward only.

No other module changes inputs.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nibt.core.side import WITHOUT_GRAPH, Side, chunks
from nibt.data.units import Segments, SequenceUnits, Units, Word, Words, cells_of
from nibt.errors import Unsupported
from nibt.models._inputs import Inputs
from nibt.models.base import FeatureMapTower, ImageTower, TextTower
from nibt.types import PerExample, PerToken, PerUnit

_Scores = Float[Tensor, "mask batch *value"]
HIDES = ("mean", "blur", "noise")
_SIGMA = 10 / 224  # relative to the shorter side: the widest blur of Fong and Vedaldi, ICCV 2017, arXiv 1704.03296
# numbers that separate the draws of different purposes
_BACKDROP = 1
_NOISE = 2


def masker(
    side: Side, units: Units | Segments, smooth: bool = False, hide: str = "mean", seed: int = 0
) -> Callable[[PerUnit], Tensor]:
    """Return the score of a side as a function of masks, which keep 1 (all) to 0 (nothing) of each unit.

    The masks have the shape (batch, unit), or (mask, batch, unit) for scores of the shape (mask, batch). With
    ``Side.embedded`` the scores are unit embeddings, with a last dimension.

    Pixels are multiplied after normalization, so that 0 is the mean color, or blended with the ``backdrop``. Words are
    blended with the embedding of the padding token before positions are added, whatever ``hide`` is. Special tokens
    are kept.
    """
    tower = side.tower
    mode = "bilinear" if smooth else "nearest"
    behind = backdrop(side, hide, seed) if isinstance(tower, ImageTower) else None

    words = side.inputs.words if isinstance(units, Words) else None
    first = 0
    if isinstance(units, SequenceUnits) and bool(units.words.explained.any()):
        words = units.words
        first = units.grid.count

    def scores_of_units(keep: Float[Tensor, "mask batch unit"]) -> _Scores:
        if isinstance(units, Words):
            return side.score(tower.encode(_tiled(side, len(keep))).unflatten(0, keep.shape[:2]))
        assert isinstance(tower, ImageTower)
        if isinstance(units, Segments):
            pixels = F.interpolate(units.pixels(keep), tower.extent(side.inputs))
            return score_of_pixels(side, pixels, behind)

        grid = cells_of(units)
        pixels = F.interpolate(grid.unfold(keep[..., : grid.count]), tower.extent(side.inputs), mode=mode)
        return score_of_pixels(side, pixels, behind)

    def score_masks(keep: Float[Tensor, "mask batch unit"]) -> _Scores:
        if words is None:
            return scores_of_units(keep)
        assert isinstance(tower, TextTower)
        explained = words.explained.to(keep.device)
        kept = torch.where(explained, keep[..., first : first + explained.shape[1]], 1.0)
        with tower.blend_to_padding(kept[..., tower.offset if first else 0 :].flatten(0, 1)):
            return scores_of_units(keep)

    def score(keep: PerUnit) -> Tensor:
        stack = keep if keep.ndim == 3 else keep[None]
        with torch.no_grad():
            parts = [score_masks(stack[chunk]) for chunk in mask_chunks(side, len(stack))]
            scores = torch.cat(parts) if parts else side.value()[None][:0]  # nothing to remove
        return scores if keep.ndim == 3 else scores[0]

    return score


def embeddings_with_words(
    side: Side, words: Sequence[Word], coalitions: Float[Tensor, "coalition word"]
) -> Float[Tensor, "coalition dim"]:
    """Compute the unit embeddings of one caption with some of its words; the other words are padding."""
    keep = torch.ones(len(coalitions), 1, side.units.count, dtype=torch.float32, device="cpu")
    for place, word in enumerate(words):
        keep[:, 0, list(word.tokens)] = coalitions[:, [place]]
    return masker(side.embedded(), side.units)(keep.to(side.tower.example.device))[:, 0]


def mask_chunks(side: Side, count: int) -> Iterator[slice]:
    """Yield the slices of ``count`` masks that go through the tower together, without a graph."""
    states = [stream for stream in side.trace.streams if stream is not None]
    if isinstance(side.tower, FeatureMapTower):
        states.append(side.inputs.values)  # the first feature maps are large, too, and the trace may lack them
    largest = max(states, key=Tensor.numel)
    return chunks(count, largest, WITHOUT_GRAPH)


def score_of_pixels(
    side: Side, keep: Float[Tensor, "mask batch height width"], behind: Tensor | None = None
) -> _Scores:
    """Compute the score for masks over the pixels of the tower's input."""
    assert isinstance(side.tower, ImageTower)
    tiled = _tiled(side, len(keep))
    kept = keep.flatten(0, 1)
    if behind is not None:
        behind = behind.repeat(len(keep), *(1,) * (behind.ndim - 1))
    masked = side.tower.mask_pixels(tiled, kept, behind)
    return side.score(side.tower.encode(masked).unflatten(0, keep.shape[:2]))


def backdrop(side: Side, hide: str, seed: int = 0) -> Tensor | None:
    """Return what replaces removed parts of images, in the layout of the tower's inputs; None is the mean color."""
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
            f"hide must be mean or noise for a {type(side.tower).__name__}, whose input is not the pixels of one image "
            f"(got {hide!r})"
        )

    from torchvision.transforms.functional import gaussian_blur

    sigma = _SIGMA * min(values.shape[-2:])
    return gaussian_blur(values, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2)


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return a random generator for each place, such as a row, so that draws do not depend on other places."""
    return np.random.default_rng((seed, *place))


def item_rng(inputs: Inputs, item: int, seed: int, *place: int) -> np.random.Generator:
    """Return the random generator of an item.

    It is seeded by ``seed`` and a checksum of the item's pixels or word ids, so its draws depend neither on the rest of
    the batch nor on the padding of a caption.
    """
    values = inputs.values[item].cpu()
    if inputs.words is not None and values.ndim == 1:
        values = values[inputs.words.explained[item].cpu()]
    return np.random.default_rng((seed, zlib.crc32(values.float().contiguous().numpy().tobytes()), *place))


@contextmanager
def perturbed(side: Side, radius: float, seed: int, sample: int) -> Iterator[Side]:
    """Provide the same side with slightly perturbed inputs inside the ``with`` block.

    Uniform noise in [-radius, radius] is added to each normalized pixel, or to the embedding of each word before
    positions are added; there it is multiplied by the root mean square of the caption's embeddings. Special tokens and
    the blank caption stay unchanged. A word that is blended to padding loses its noise in the same proportion.
    """
    lowest = sum(stream is None for stream in side.trace.streams)
    if isinstance(side.tower, ImageTower):
        shape = side.inputs.values.shape[1:]
        items = range(len(side.inputs))
        drawn = [item_rng(side.inputs, item, seed, _NOISE, sample).uniform(-1, 1, shape) for item in items]
        noise = radius * torch.from_numpy(np.stack(drawn)).to(side.inputs.values)
        everywhere = noise.new_ones(len(noise), *side.tower.extent(side.inputs))
        added = side.tower.mask_pixels(replace(side.inputs, values=noise), everywhere).values  # no noise on padding
        yield replace(side, trace=side.tower.trace(replace(side.inputs, values=side.inputs.values + added), lowest))
        return

    assert isinstance(side.tower, TextTower)
    hidden = side.stem().hidden
    words = side.inputs.words
    caption_ids = side.inputs.values
    assert words is not None
    noise = torch.zeros_like(hidden)
    for item, explained in enumerate(words.explained[:, : hidden.shape[1]].to(hidden.device)):
        embeddings = hidden[item, explained]
        drawn = item_rng(side.inputs, item, seed, _NOISE, sample).uniform(-1, 1, embeddings.shape)
        noise[item, explained] = radius * embeddings.square().mean().sqrt() * torch.from_numpy(drawn).to(embeddings)

    def add(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:  # to the embeddings of these captions only
        ids = args[0]
        same = (ids[:, None] == caption_ids[:, : ids.shape[1]]).all(-1)
        return out + noise[same.int().argmax(1), : out.shape[1]] * same.any(1)[:, None, None]

    with side.tower.embedding(add):
        yield replace(side, trace=side.tower.trace(side.inputs, lowest))


def without_ends(side: Side, keep: PerToken, rows: Bool[Tensor, "batch token"]) -> tuple[PerExample, PerExample]:
    """Compute the scores of captions without their first and last token, whole and with scaled embeddings.

    Each row of the embedding table is scaled once for every position of its word, by what that position keeps, so the
    row of a word that occurs twice is scaled by the product. The tower pools whatever row it takes for the end.
    """
    tower = side.tower
    embeddings = []
    assert isinstance(tower, TextTower)
    for item, caption_rows in enumerate(rows):  # alone, since padding would change the result
        places = caption_rows.nonzero()[1:-1, 0]
        ids = side.inputs.values[item, places]
        kept = keep[item, places]
        scale = torch.where(ids[:, None] == ids, kept, 1.0).prod(1)
        both = torch.stack([torch.ones_like(scale), scale])[..., None]
        with tower.embedding(lambda _, args, out, both=both: out * both.to(out)):
            embeddings.append(tower.encode(_rows_of(side, item, places, ids.expand(2, -1))))

    unscaled, scaled = side.score(torch.stack(embeddings, 1))
    return unscaled, scaled


def with_ids_of(side: Side, kept: Bool[Tensor, "batch token"]) -> tuple[PerExample, PerExample]:
    """Compute the scores of captions without their special tokens, whole and with the id 0 in place of words."""
    tower = side.tower
    words = side.inputs.words
    embeddings = []
    assert isinstance(tower, TextTower)
    assert words is not None
    for item, explained in enumerate(words.explained):  # alone, since padding would change the result
        places = explained.nonzero()[:, 0].to(kept.device)
        ids = side.inputs.values[item, places]
        embeddings.append(
            tower.encode(_rows_of(side, item, places, torch.stack([ids, ids * kept[item, places].to(ids)])))
        )

    unmasked, partial = side.score(torch.stack(embeddings, 1))
    return unmasked, partial


def _rows_of(side: Side, item: int, places: Int[Tensor, " token"], ids: Int[Tensor, "copy token"]) -> Inputs:
    """Return captions with these ids and what else the tower takes for these places of one caption."""
    return Inputs(ids, {name: value[item, places].expand(2, -1) for name, value in side.inputs.extra.items()})


def _tiled(side: Side, count: int) -> Inputs:
    """Return the inputs, repeated once per mask."""
    return side.inputs.take(list(range(len(side.inputs))) * count) if count > 1 else side.inputs
