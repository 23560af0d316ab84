"""Parts of evidence: what is alike among the places that carry the positive score over a data set.

The JSON form is described in ``docs/guides/parts.md``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Annotated, ClassVar, get_args

import numpy as np
from jaxtyping import Float
from pydantic import computed_field, model_validator
from torch import Tensor

from nibt.errors import BadOption
from nibt.options import ClosedShare, Count, Layer, NotNegative, PartCount, Seed
from nibt.records import JsonObject
from nibt.results.base import Array, Result, Serializable, require_result
from nibt.results.part_scores import Mark, PartVerdict
from nibt.results.records import DataURI
from nibt.types import ByValue, ModelRecord

FEWEST_IMAGES = 8
"""A part in fewer images has no verdict."""
LEAST_EFFECT = 0.1
"""A part is needed if the interval of what images lose without it is above this, and not needed if it is below."""
WIDEST = 1.0
"""The widest interval with a verdict: it is wider where images hardly prefer their captions."""
ON_OBJECTS = 0.3
"""A part with at least this share of its score on named objects is one of the objects."""


@dataclass(frozen=True)
class Effect:
    """What a model loses, or gains, by cells that are exchanged between images, as a share of what all cells change.

    Attributes:
        value: The share, over all images of the part.
        low: The lower end of its 95 % interval.
        high: The upper end.
        beyond_random: What it has beyond as many random cells of the same images.
        beyond_random_low: The lower end of its 95 % interval.
        beyond_random_high: The upper end.
        count: The number of images.
    """

    value: float
    low: float
    high: float
    beyond_random: float
    beyond_random_low: float
    beyond_random_high: float
    count: int


def verdict_of(on_objects: float | None, needed: Effect | None, pairs: int) -> PartVerdict:
    """Return the verdict of a part, of images or of captions, as ``Part.verdict`` describes it.

    Args:
        on_objects: The share of its score on named objects, or on the words that name them; None if it is unknown.
        needed: What the similarity loses without the part; None if it is unknown.
        pairs: The number of images or captions that have the part.
    """
    if on_objects is None or needed is None or pairs < FEWEST_IMAGES:
        return "no verdict"

    if on_objects >= ON_OBJECTS:
        return "object"

    if needed.high - needed.low > WIDEST:
        return "no verdict"

    if needed.low > LEAST_EFFECT:
        return "shortcut"

    return "not needed" if needed.high < LEAST_EFFECT else "cannot tell"


def rank(verdict: PartVerdict, share: float) -> tuple[int, float]:
    """Return what parts are sorted by: shortcuts come first, then what may be one, then the largest shares."""
    return {"shortcut": 0, "cannot tell": 1}.get(verdict, 2), -share


@dataclass(frozen=True)
class LabelOfPart:
    """A label whose images have a part.

    Attributes:
        label: The label.
        share: The share of the part's score that is in images of the label.
        images: The number of images of the label that have the part.
    """

    label: str
    share: float
    images: int


@dataclass(frozen=True)
class Crop:
    """A part in one image.

    Attributes:
        pair: The position of the pair.
        source: The path or the URL of the image, or a description of it.
        caption: The caption.
        box: Left, top, width and height of the largest connected group of the part's cells, in pixels of the image.
        share: The share of the image's positive score on the part.
        is_random: Whether the image was drawn at random from those of the part; others have the largest shares.
        crop: The box with a margin, as a data URI.
        image: The whole image, pale beside the part's cells, as a data URI.
    """

    pair: int
    source: str
    caption: str
    box: tuple[int, int, int, int]
    share: float
    is_random: bool
    crop: DataURI
    image: DataURI


@dataclass(frozen=True, eq=False)
class Part(Serializable):
    """One part: a cluster of cells with similar hidden states that carry positive scores.

    Attributes:
        number: The number of the part, from 1.
        share: Its share of the score of all cells that were clustered.
        images: The number of images that have it.
        size: The mean share of the cells of an image that the completed part covers: all cells of the image that are
            nearer to its center than 90 % of its own cells, and to no other center, also those without a score.
        stability: The share of draws of half of the images in which a matching part is found (Jaccard index of at least
            0.5, by score).
        on_objects: The share of its score on cells that show a named object; None without masks or boxes. Images that
            have none, among others, have parts of their own.
        place: How often it covers each cell of the images that have it, rows x columns.
        needed: The similarity that images lose if the completed part is exchanged for that of another image; None if
            this is unknown, as for a model that does not prefer the captions of the images.
        sufficient: The similarity that the other image gains by its cells, likewise.
        name: The nearest text to what its cells add to the embedding; empty if it is not clearly so in most images.
        nearest: The two nearest texts with their cosines; empty if no texts were compared.
        labels: The labels with the largest shares; empty if the pairs have no labels.
        gallery: The images with the largest shares, then some at random.
        center: The mean of its standardized states.
        reach: The distance from the center within which 90 % of its cells are.
        mark: What a person says of it, as on the page: the model ``may`` use it, or ``must not``; empty if nothing is
            said.
    """

    number: int
    share: NotNegative
    images: Count
    size: NotNegative
    stability: ClosedShare
    on_objects: float | None
    place: Annotated[Float[Tensor, "row column"], Array(2)]
    needed: Effect | None
    sufficient: Effect | None
    name: str
    nearest: tuple[tuple[str, float], ...]
    labels: tuple[LabelOfPart, ...]
    gallery: tuple[Crop, ...]
    center: Annotated[Float[Tensor, " dim"], Array(1)]
    reach: NotNegative
    mark: Mark = ""

    @computed_field
    @property
    def is_stable(self) -> bool:
        """Whether a matching part is found in at least half of the draws."""
        return self.stability >= 0.5

    @computed_field
    @property
    def verdict(self) -> PartVerdict:
        """The verdict.

        ``no verdict``: There are no masks, fewer than 8 images, or an unknown effect: look at the gallery. ``object``:
        At least 0.3 of the part's score is on named objects. Of a part beside them, ``no verdict``: the interval is
        wider than 1. ``shortcut``: It is needed: the interval is above 0.1. ``not needed``: The interval is below 0.1.
        ``cannot tell``: It contains 0.1.
        """
        return verdict_of(self.on_objects, self.needed, self.images)

    @property
    def is_on_objects(self) -> bool | None:
        """Whether at least 0.3 of its score is on named objects, also without a verdict; None if this is unknown."""
        return None if self.on_objects is None else self.on_objects >= ON_OBJECTS

    @property
    def where(self) -> str:
        """The place in words.

        It is one of nine sectors of the image if the sector has at least 0.6 of the place, "border" if the outermost
        cells have 0.8, and else "many places".
        """
        grid = self.place.double().numpy()
        grid = grid / max(float(grid.sum()), 1e-30)
        sectors = [[columns.sum() for columns in np.array_split(rows, 3, 1)] for rows in np.array_split(grid, 3)]
        sums = np.array(sectors)
        row, column = np.unravel_index(sums.argmax(), sums.shape)
        if sums[row, column] >= 0.6:
            names = (("upper", "middle", "lower")[row], ("left", "center", "right")[column])
            return "center" if names == ("middle", "center") else " ".join(names)
        return "border" if grid.sum() - grid[1:-1, 1:-1].sum() >= 0.8 else "many places"


@dataclass(frozen=True, eq=False, repr=False)
class Parts(Result):
    """The parts of evidence of a model over a data set.

    Attributes:
        model: The model and its hashes.
        data: The data set and the number of pairs.
        method: The method of the maps.
        layer: The layer of the image tower whose hidden states describe cells.
        grid: The rows and columns of the cells.
        seed: The seed of all random draws.
        count: The number of clusters that were asked for.
        seconds: The time that the computation took.
        versions: The versions of packages.
        kept: The share of all positive scores on the cells that were clustered.
        means: The mean of each channel of the states of these cells.
        deviations: The standard deviation of each channel.
        parts: The parts: shortcuts first, then those with the verdict ``cannot tell``, then the largest shares.
        notes: Warnings.
    """

    kind: ClassVar[str] = "parts"
    schema: ClassVar[int] = 1

    model: ModelRecord
    data: JsonObject
    method: str
    layer: Layer
    grid: tuple[int, int]
    seed: Seed
    count: PartCount
    seconds: NotNegative
    versions: Mapping[str, str]
    kept: float
    means: Annotated[Float[Tensor, " dim"], Array(1)]
    deviations: Annotated[Float[Tensor, " dim"], Array(1)]
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _of_one_space(self) -> "Parts":
        """Check that the parts of plain data fit: their numbers, their centers and their places."""
        if [part.number for part in self.parts] != list(range(1, len(self.parts) + 1)):
            raise ValueError(f"parts must be numbered from 1 (got {[part.number for part in self.parts]})")

        width = len(self.means)
        if bool((self.deviations <= 0).any()):
            raise ValueError("deviations must be above 0")

        for part in self.parts:
            if len(part.center) != width or len(self.deviations) != width:
                raise ValueError(f"parts[{part.number - 1}].center must have {width} entries, as means and deviations")
            if tuple(part.place.shape) != tuple(self.grid):
                raise ValueError(f"parts[{part.number - 1}].place must have the shape of grid, {self.grid}")

        return self

    @computed_field
    @property
    def fingerprint(self) -> str:
        """What states of another model can not be compared with: the hash of the weights, the layer and the grid."""
        rows, columns = self.grid
        return f"{self.model['weights_hash']}, layer {self.layer}, {rows} x {columns} cells"

    @property
    def shortcuts(self) -> tuple[Part, ...]:
        """The parts with the verdict ``shortcut``."""
        return tuple(part for part in self.parts if part.verdict == "shortcut")

    @property
    def unwanted(self) -> tuple[Part, ...]:
        """The parts with the mark ``must not``; without any, the shortcuts that do not have the mark ``may``."""
        marked = tuple(part for part in self.parts if part.mark == "must not")
        return marked or tuple(part for part in self.shortcuts if part.mark != "may")

    def marked(self, marks: Mapping[int, Mark]) -> "Parts":
        """Return the parts with other marks, by their numbers; the others keep theirs.

        Raises:
            BadOption: There is no part with that number, or a mark is not one of ``may``, ``must not`` and the empty
                string.
        """
        if not isinstance(marks, Mapping):
            raise BadOption(f"marks must be a mapping of the numbers of parts to marks (got {marks!r:.60})")

        parts = list(self.parts)
        for number, mark in marks.items():
            if mark not in get_args(Mark):
                raise BadOption(f"a mark must be 'may', 'must not' or '' (got {mark!r:.60})")
            parts[self.part(number).number - 1] = replace(self.part(number), mark=mark)

        return replace(self, parts=tuple(parts))

    def part(self, number: int) -> Part:
        """Return a part by its number, from 1.

        Raises:
            BadOption: There is no such part.
        """
        is_number = isinstance(number, Integral) and not isinstance(number, bool)  # also one of NumPy
        if not is_number or not 1 <= number <= len(self.parts):
            raise BadOption(f"a part must be a number from 1 to {len(self.parts)} (got {number!r:.60})")
        return self.parts[number - 1]

    def request(self) -> JsonObject:
        return parts_request(self.kind, self.model, self.data, self.method, self.layer, self.seed, self.count)

    def _lines(self) -> Iterator[str]:
        yield f"Parts of {self.model.get('id')}: {len(self.parts)}, of which {len(self.shortcuts)} are shortcuts"
        yield f"  {self.method} on {self.data.get('pairs')} pairs of {self.data.get('dataset', 'your own')}"
        for part in self.parts:
            needed = f", needed {part.needed.value:.2f}" if part.needed else ""
            unstable = "" if part.is_stable else ", not stable"
            mark = f", {part.mark}" if part.mark else ""
            yield (
                f"  {part.number} {part.verdict}: {part.share:.0%} of the score, {part.images} images, {part.where}"
                f"{needed}{unstable}{mark}"
            )


def read_parts(parts: object, caller: str) -> Parts:
    """Return parts, or those of a JSON file if this is its path."""
    if isinstance(parts, str | Path):
        parts = Parts.load(parts)
    return require_result(parts, caller, Parts)


def parts_request(
    kind: str, model: ModelRecord, data: Mapping[str, object], method: str, layer: int, seed: int, count: int
) -> JsonObject:
    """Return the request of parts of a kind as plain data; equal requests give equal numbers."""
    return {
        "kind": kind,
        "model": dict(model),
        "data": dict(data),
        "method": method,
        "layer": layer,
        "seed": seed,
        "count": count,
    }


@dataclass(frozen=True)
class UsedShare(ByValue):
    """The share of the similarity that parts decide, by exchange of their cells.

    Attributes:
        value: The share: what images lose if the cells of the parts are exchanged for those of other images, relative
            to the sum of that and what they lose if all other cells are.
        low: The lower end of its 95 % interval.
        high: The upper end.
        count: The number of images that have the parts.
        pairs: The number of all pairs; images without the parts are not in the share.
        cells: The mean share of the cells of an image that were exchanged.
    """

    value: float
    low: float
    high: float
    count: int
    pairs: int
    cells: float

    def __repr__(self) -> str:
        return (
            f"used share {self.value:.2f} [{self.low:.2f}, {self.high:.2f}], {self.count} of {self.pairs} images, "
            f"{self.cells:.0%} of their cells"
        )
