"""The result of a method: a signed score for each unit of one side, and how these scores are read."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.data.images import ImageInput, Region, read_image
from nibt.data.units import Grid, Units, Word, Words, WordScore, word_scores
from nibt.errors import NibtError
from nibt.results.records import ImageRecord, PathRecord, TextRecord
from nibt.types import Modality, PerExample, PerUnit
from nibt.values import ByValue


@dataclass(frozen=True, eq=False)
class PathSummary(ByValue):
    """How a layer was narrowed, and whether the scores add up to what the narrowing took away.

    ``at_input`` and ``at_baseline`` are the score at both ends of the path, ``sum`` that of all token scores,
    special tokens included; ``gap`` is what is left, so that ``sum + at_baseline + gap = at_input``. Where
    several layers were averaged, these are means over them. ``tolerance`` is the share of the change that the gap
    was to stay below in size, where one was asked for.
    """

    baseline: str
    quadrature: str
    layers: tuple[int, ...]
    steps: PerExample
    at_input: PerExample
    at_baseline: PerExample
    sum: PerExample
    tolerance: float | None = None

    def __getitem__(self, item: int) -> "PathSummary":
        return _indexed(self, item)

    @classmethod
    def from_record(cls, record: PathRecord) -> "PathSummary":
        """Build a summary from its record."""
        return cls(
            record.baseline,
            record.quadrature,
            tuple(record.layers),
            _tensor(record.steps),
            _tensor(record.at_input),
            _tensor(record.at_baseline),
            _tensor(record.sum),
            record.tolerance,
        )

    @property
    def gap(self) -> PerExample:
        """The signed completeness gap: the part of the change of the score that the scores leave out."""
        return self.at_input - self.at_baseline - self.sum

    @property
    def missed(self) -> Bool[Tensor, "*batch"]:
        """Whether the gap is larger than the tolerance allows."""
        return self.gap.abs() > allowed(self.at_input - self.at_baseline, self.tolerance)

    def to_json(self) -> dict[str, Any]:
        """The summary of one example as plain data."""
        data: dict[str, Any] = {"baseline": self.baseline, "quadrature": self.quadrature, "steps": int(self.steps)}
        data |= {"layers": list(self.layers), "tolerance": self.tolerance}
        return data | {key: float(getattr(self, key)) for key in ("at_input", "at_baseline", "sum", "gap")}


def allowed(change: PerExample, tolerance: float | None) -> PerExample:
    """The largest gap: that share of the change, or of 0.01 where there is hardly a change; any without a tolerance."""
    return (torch.inf if tolerance is None else tolerance) * change.abs().clamp_min(0.01)


@dataclass(frozen=True, eq=False)
class Attribution(ByValue):
    """Raw scores of one side, for a batch or (indexed) for one example.

    Nothing is clipped or rescaled until a reader asks for it. ``special_share`` is the share of the absolute score that
    lies on rows without a unit.
    """

    scores: PerUnit
    units: Units
    special_share: PerExample
    path: PathSummary | None = None

    def __getitem__(self, item: int) -> "Attribution":
        return _indexed(self, item)

    def to(self, device: str) -> "Attribution":
        """The same on another device, as float32."""
        return replace(self, scores=self.scores.to(device, torch.float32))

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of one caption, padding included."""
        assert isinstance(self.units, Words), "only a caption has tokens"
        return self.units.tokens[0]

    @property
    def special(self) -> Bool[Tensor, "*batch token"]:
        """Which tokens of a caption are no part of a word: start, end and padding."""
        assert isinstance(self.units, Words), "only a caption has tokens"
        return ~self.units.explained

    @property
    def words(self) -> tuple[WordScore, ...]:
        """The words of one caption with their scores."""
        assert isinstance(self.units, Words), "only a caption has words"
        return word_scores(self.scores, self.units)

    @property
    def grid(self) -> Float[Tensor, "*batch rows columns"]:
        """Scores of an image, unfolded to its grid."""
        assert isinstance(self.units, Grid), "only the scores of an image lie on a grid"
        return self.units.unfold(self.scores)

    def normalized(self) -> PerUnit:
        """Scores in [0, 1] for each example, over the explained units; a flat map becomes 0, never NaN."""
        mask = torch.ones_like(self.scores, dtype=torch.bool) if isinstance(self.units, Grid) else self.units.explained
        return min_max(self.scores, mask.to(self.scores.device))


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageAttribution(Attribution):
    """The attribution of one image, and where the image came from.

    Attributes:
        source: The file, the address or a description of the image.
        region: The part of the upright image that the grid covers, in pixels of the image.
        size: Width and height of the upright image, in pixels.
        input: The image itself; None if the attribution was loaded and the image is no longer at ``source``.
        image_hash: A digest of the image's bytes.

    """

    source: str
    region: Region
    size: tuple[int, int]
    input: ImageInput | None = field(default=None, repr=False, compare=False)
    image_hash: str = ""
    modality: ClassVar[Modality] = "image"

    @classmethod
    def of(cls, attribution: Attribution, **image: Any) -> "ImageAttribution":
        """Add what is known of the image to the scores of a method."""
        return cls(**vars(attribution), **image)

    def heatmap(self) -> np.ndarray:
        """Return the signed scores in the pixels of the image: float32, (height, width), 0 outside ``region``."""
        return over_image(self.grid, self.region, self.size)

    def to_json(self) -> dict[str, Any]:
        """The attribution as plain data."""
        return {
            "modality": self.modality,
            "source": self.source,
            "image_hash": self.image_hash,
            "size": list(self.size),
            "region": list(asdict(self.region).values()),
            "grid": self.grid.tolist(),
            "special_share": float(self.special_share),
            "path": self.path and self.path.to_json(),
        }

    @classmethod
    def from_record(cls, record: ImageRecord) -> "ImageAttribution":
        """Build an attribution from its record. The image is read as well if it is still at its source, unchanged."""
        grid = _tensor(record.grid)
        return cls(
            grid.flatten(),
            Grid(*grid.shape),
            _tensor(record.special_share),
            record.path and PathSummary.from_record(record.path),
            source=record.source,
            region=Region(*record.region),
            size=record.size,
            input=image_at(record.source, record.image_hash),
            image_hash=record.image_hash,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class TextAttribution(Attribution):
    """The attribution of one caption. ``scores`` has one number per token, 0 for special tokens."""

    caption: str
    modality: ClassVar[Modality] = "text"

    @classmethod
    def of(cls, attribution: Attribution, caption: str) -> "TextAttribution":
        """Add the caption to the scores of a method."""
        return cls(**vars(attribution), caption=caption)

    @property
    def source(self) -> str:
        """The caption: as an image is named by its file, a caption is named by its text."""
        return self.caption

    def to_json(self) -> dict[str, Any]:
        """The attribution as plain data."""
        return {
            "modality": self.modality,
            "caption": self.caption,
            "words": [{"text": word.text, "score": word.score, "tokens": list(word.tokens)} for word in self.words],
            "tokens": list(self.tokens),
            "scores": self.scores.tolist(),
            "special": self.special.tolist(),
            "special_share": float(self.special_share),
            "path": self.path and self.path.to_json(),
        }

    @classmethod
    def from_record(cls, record: TextRecord) -> "TextAttribution":
        """Build an attribution from its record."""
        words = tuple(Word(word.text, tuple(word.tokens)) for word in record.words)
        return cls(
            _tensor(record.scores),
            Words((tuple(record.tokens),), (words,), ~torch.tensor(record.special, device="cpu")),
            _tensor(record.special_share),
            record.path and PathSummary.from_record(record.path),
            caption=record.caption,
        )


SideAttribution: TypeAlias = ImageAttribution | TextAttribution


def side_from_record(record: ImageRecord | TextRecord) -> SideAttribution:
    """Build the attribution of either modality."""
    if isinstance(record, ImageRecord):
        return ImageAttribution.from_record(record)
    return TextAttribution.from_record(record)


def image_at(source: str, image_hash: str) -> ImageInput | None:
    """Read the image at a source; None if it is gone, or if another image is there now."""
    try:
        image = read_image(source)
    except NibtError:
        return None
    return image if image.digest == image_hash else None


def min_max(scores: PerUnit, among: Bool[Tensor, "*batch unit"]) -> PerUnit:
    """Scores stretched to [0, 1] over some of the units; the others are 0."""
    low = scores.masked_fill(~among, torch.inf).amin(-1, keepdim=True)
    high = scores.masked_fill(~among, -torch.inf).amax(-1, keepdim=True)
    span = high - low
    stretched = (scores - low) / torch.where(span > 0, span, torch.ones_like(span))
    return stretched.masked_fill(~among, 0.0)


def to_pixels(
    grid: Float[Tensor, "*batch rows columns"], height: int, width: int
) -> Float[Tensor, "*batch {height} {width}"]:
    """A grid, stretched bilinearly over the pixels of the seen region."""
    flat = grid.reshape(-1, 1, *grid.shape[-2:])
    return F.interpolate(flat, (height, width), mode="bilinear").reshape(*grid.shape[:-2], height, width)


def placed(region: Region, full: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A region of an image of the ``full`` (width, height), as (left, top, right, bottom) in a copy of another size."""
    across, down = size[0] / full[0], size[1] / full[1]
    left, top = round(region.left * across), round(region.top * down)
    return left, top, left + max(1, round(region.width * across)), top + max(1, round(region.height * down))


def over_image(
    grid: Float[Tensor, "row column"], region: Region, full: tuple[int, int], size: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the signed scores of a grid in pixels: float32, (height, width), 0 outside ``region``.

    Args:
        grid: The scores of the patches.
        region: The part of the image that the grid covers, in its pixels.
        full: Width and height of the image.
        size: Width and height of the copy of the image that is wanted; None means the image itself.

    """
    width, height = size or full
    left, top, right, bottom = placed(region, full, (width, height))
    scores = to_pixels(grid.float(), bottom - top, right - left).numpy()
    whole = np.zeros((height, width), np.float32)
    inside = scores[max(0, -top) : height - top, max(0, -left) : width - left]
    whole[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]] = inside
    return whole


def _indexed(data: Any, item: int) -> Any:
    """One example of a batch: tensors, and what holds tensors, lose their first dimension."""
    indexed = {
        f.name: getattr(data, f.name)[item]
        for f in fields(data)
        if isinstance(getattr(data, f.name), Tensor | PathSummary) or f.name == "units"
    }
    return replace(data, **indexed)


def _tensor(data: Any) -> Tensor:
    """Plain numbers as float32 on the processor, whatever the default dtype and device are."""
    return torch.tensor(data, dtype=torch.float32, device="cpu")
