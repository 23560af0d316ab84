"""Attributions: the signed scores of the units of one side, and functions that convert them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field, computed_field, model_validator
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.data.objects import read_box
from nibt.data.units import Grid, Units, Word, Words, WordScore, check_tokens, special_token_share
from nibt.errors import BadInput
from nibt.results.base import Array, OfImage, Serializable
from nibt.results.map_regions import MapRegion, threshold_mask
from nibt.results.notes import ESTIMATE, Note
from nibt.results.pixels import min_max, over_image
from nibt.types import ByValue, PerExample, PerToken, PerUnit

_TINY = 0.001  # a share of the change that is mostly rounding
_VALUES = ("steps", "at_input", "at_baseline", "sum", "special_tokens")
"""The fields of a path with a value for each item."""


@dataclass(frozen=True, eq=False)
class PathSummary(Serializable):
    """The path from the baseline to the input, and how complete the scores along it are.

    ``at_baseline + sum + gap = at_input``. With several layers, the values are means over them. With several views,
    they are those of the image as it is.

    Attributes:
        baseline: The name of the baseline.
        quadrature: The name of the quadrature rule.
        layers: The layers at which the path was taken; empty for integrated gradients, whose path is at the input
            tokens.
        steps: The number of steps.
        at_input: The target at the end of the path, the input.
        at_baseline: The target at the start of the path, the baseline.
        sum: The sum of the scores of the units: what the map or the words show.
        special_tokens: The sum of the scores of special tokens, which are no units and are not shown.
        tolerance: The largest allowed size of the gap, as a share of the change of the target; None means no limit.
    """

    baseline: str
    quadrature: str
    layers: tuple[int, ...]
    steps: Annotated[PerExample, Array(entries="integer")]
    at_input: Annotated[PerExample, Array()]
    at_baseline: Annotated[PerExample, Array()]
    sum: Annotated[PerExample, Array()]
    special_tokens: Annotated[PerExample, Array()]
    tolerance: float | None = None

    def __getitem__(self, item: int | slice) -> "PathSummary":
        values = {name: getattr(self, name)[item] for name in _VALUES}
        return replace(self, **values)

    @classmethod
    def mean(cls, summaries: "Sequence[PathSummary]") -> "PathSummary":
        """Return one summary for several layers or views: means of the scores, and the largest number of steps."""
        first = summaries[0]
        if len(summaries) == 1:
            return first

        means = {name: torch.stack([getattr(summary, name) for summary in summaries]).mean(0) for name in _VALUES[1:]}
        layers = tuple(dict.fromkeys(layer for summary in summaries for layer in summary.layers))
        steps = torch.stack([summary.steps for summary in summaries]).amax(0)
        return replace(first, layers=layers, steps=steps, **means)

    @computed_field
    @property
    def gap(self) -> Annotated[PerExample, Array()]:
        """The signed completeness gap of what is shown: at_input - at_baseline - sum."""
        return self.at_input - self.at_baseline - self.sum

    @property
    def gap_share(self) -> str:
        """The size of the gap of one example as text, relative to the change of the target."""
        gap = abs(float(self.gap))
        change = abs(float(self.at_input - self.at_baseline))
        if not change:
            return f"{gap:.2g} (there is no change)"
        return percent(gap / change) if gap >= _TINY * change else f"<{percent(_TINY)}"

    @property
    def missed(self) -> Bool[Tensor, "*batch"]:
        """Whether the gap of all tokens, special tokens included, is above the tolerance; see ``allowed``."""
        return (self.gap - self.special_tokens).abs() > allowed(self.at_input - self.at_baseline, self.tolerance)


def percent(share: float) -> str:
    r"""Return a share as text, with two digits if it is small.

    >>> percent(0.0123), percent(0.271)
    ('1.2\xa0%', '27\xa0%')
    """
    return f"{100 * share:.0f}\u00a0%" if share >= 0.1 else f"{100 * share:.2g}\u00a0%"


def allowed(change: PerExample, tolerance: float | None) -> PerExample:
    """Return the largest allowed gap.

    It is the share ``tolerance`` of the change, where changes below 0.01 count as 0.01. Without a tolerance it is
    infinite.
    """
    return (torch.inf if tolerance is None else tolerance) * change.abs().clamp_min(0.01)


@dataclass(frozen=True, eq=False)
class Attribution(ByValue):
    """The scores of one side, for a batch or, after indexing, for one example.

    Attributes:
        scores: The signed scores, neither clipped nor rescaled: (unit) or (batch, unit).
        units: The units that the scores belong to: a grid of patches, or words and tokens.
        special_token_share: The share of the absolute score on special tokens, in [0, 1].
        path: The path and the completeness of the scores, for methods that have one.
        notes: For each example of a batch, warnings of the method; empty without any.
        error: The half-width of the 95 % interval of each score, for scores that are estimated from random draws:
            about 95 of 100 seeds give scores that differ less from what all possible draws would give. It is 0 if all
            draws were made, and infinite with too few of them. None for other scores, with several views, and with
            amounts by removal.
        evaluations: For each example of a batch, the number of changed inputs that the scores with an error are
            estimated from; empty without errors.
        reliance: For each example of a batch, the area under the probability of a word while its units are added,
            above the least value; None for methods that add no units.
    """

    scores: PerUnit
    units: Units
    special_token_share: PerExample
    path: PathSummary | None = None
    notes: tuple[tuple[Note | str, ...], ...] = ()
    error: PerUnit | None = None
    evaluations: tuple[int, ...] = ()
    reliance: PerExample | None = None

    @classmethod
    def of_rows(cls, scores: PerToken, units: Units, path: PathSummary | None = None) -> "Attribution":
        """Build the attribution of a batch from the scores of all rows."""
        # what pads a caption to the longest of its batch is none of its special tokens
        if isinstance(units, Words):
            scores = units.without_padding(scores)

        of_units = units.keep(scores)
        if path is not None:
            total = of_units.sum(-1)
            path = replace(path, sum=total, special_tokens=scores.sum(-1) - total)

        return cls(of_units, units, special_token_share(scores, units), path)

    def __getitem__(self, item: int) -> "Attribution":
        units = self.units if isinstance(self.units, Grid) else self.units[item]
        scores = self.scores[item]
        path = self.path if self.path is None else self.path[item]
        error = None if self.error is None else self.error[item]
        if isinstance(units, Words):  # what pads a caption to the longest of its batch is no part of it
            scores = scores[: len(units.explained)]
            error = None if error is None else error[: len(units.explained)]

        return Attribution(
            scores,
            units,
            self.special_token_share[item],
            path,
            error=error,
            evaluations=self.evaluations[item : item + 1],
            reliance=None if self.reliance is None else self.reliance[item],
        )

    def to(self, device: str) -> "Attribution":
        """Return a copy with the scores on another device, as float32."""
        error = None if self.error is None else self.error.to(device, torch.float32)
        return replace(self, scores=self.scores.to(device, torch.float32), error=error)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of one caption, with the padding that every caption of the model has."""
        assert isinstance(self.units, Words), "only a caption has tokens"
        return self.units.tokens[0]

    @property
    def special(self) -> Bool[Tensor, "*batch token"]:
        """A mask of the tokens that belong to no word: start, end and padding."""
        assert isinstance(self.units, Words), "only a caption has tokens"
        return ~self.units.explained

    @property
    def words(self) -> tuple[WordScore, ...]:
        """The words of one caption with their scores."""
        assert isinstance(self.units, Words), "only a caption has words"
        scored = []
        for word in self.units.words[0]:
            rows = [*word.tokens]
            error = None if self.known_error is None else float(self.known_error[rows].sum())
            scored.append(WordScore(word.text, float(self.scores[rows].sum()), word.tokens, error))

        return tuple(scored)

    @property
    def known_error(self) -> PerUnit | None:
        """The errors of one example; None also if they are infinite."""
        return self.error if self.error is not None and self.error.isfinite().all() else None

    @property
    def grid(self) -> Float[Tensor, "*batch rows columns"]:
        """The scores of an image: rows x columns of patches."""
        assert isinstance(self.units, Grid), "only the scores of an image lie on a grid"
        return self.units.unfold(self.scores)

    def normalized(self) -> PerUnit:
        """Return the scores of each example, rescaled to [0, 1] over the explained units; a flat map becomes 0."""
        mask = torch.ones_like(self.scores, dtype=torch.bool) if isinstance(self.units, Grid) else self.units.explained
        return min_max(self.scores, mask.to(self.scores.device))


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageAttribution(OfImage):
    """The attribution of one image, with the attributes of ``OfImage``.

    Attributes:
        modality: "image".
        grid: The signed scores of the patches, rows x columns.
        special_token_share: The share of the absolute score on special tokens, in [0, 1].
        path: The path and the completeness of the scores, for methods that have one.
        error: The half-width of the 95 % interval of each score, rows x columns, for scores that are estimated from
            random draws; None for others, and with too few draws.
        evaluations: The number of changed images that the scores are estimated from; None without errors.
    """

    modality: Literal["image"] = "image"
    grid: Annotated[Float[Tensor, "row column"], Array(2)]
    special_token_share: Annotated[PerExample, Array(is_share=True)]
    path: PathSummary | None = None
    error: Annotated[Float[Tensor, "row column"], Array(2)] | None = None
    evaluations: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _error_fits(self) -> "ImageAttribution":
        """Check what is read from a file; what nibt computes fits."""
        if self.error is not None:
            check_error("error", self.error, self.grid)
        return self

    @classmethod
    def of(
        cls,
        attribution: Attribution,
        *,
        source: str,
        size: tuple[int, int],
        region: Region,
        image_hash: str = "",
        input: ImageInput | None = None,
    ) -> "ImageAttribution":
        """Build an image's attribution from the scores of a method and the fields of the image."""
        assert isinstance(attribution.units, Grid)
        known = attribution.known_error
        return cls(
            grid=attribution.grid,
            special_token_share=attribution.special_token_share,
            path=attribution.path,
            error=None if known is None else attribution.units.unfold(known),
            evaluations=next(iter(attribution.evaluations), None),
            source=source,
            size=size,
            region=region,
            image_hash=image_hash,
            input=input,
        )

    @property
    def scores(self) -> Float[Tensor, " unit"]:
        """The signed scores of the patches in row-major order."""
        return self.grid.flatten()

    @property
    def units(self) -> Grid:
        """The grid of the patches."""
        return Grid(*self.grid.shape)

    @property
    def outside_share(self) -> float:
        """The share of the absolute scores that are outside of the image, on the padding of a processor."""
        total = float(self.grid.abs().sum())
        width, height = map(float, self.size)
        inside = self.grid.double().abs().numpy() * self.shares_inside((0.0, 0.0, width, height))
        return 1 - float(inside.sum()) / total if total else 0.0

    def shares_inside(self, box: tuple[float, float, float, float]) -> np.ndarray:
        """Return the share of each cell's area that lies inside a box: rows x columns.

        Args:
            box: Left, top, width and height in pixels of the upright image.

        Raises:
            BadInput: The box is not four finite numbers, or its width or height is negative.
        """
        left, top, width, height = read_box(box)
        rows, columns = self.grid.shape
        down = _inside(self.region.top - top, self.region.height, rows, height)
        across = _inside(self.region.left - left, self.region.width, columns, width)
        return np.outer(down, across)

    def heatmap(self) -> np.ndarray:
        """Return the signed scores in the pixels of the image, as ``Explanation.heatmap`` does."""
        return over_image(self.grid, self.region, self.size, outside=np.nan)

    def segment_scores(self, labels: object) -> np.ndarray:
        """Return the sum of the scores on each segment of the image, for the map of any method.

        Args:
            labels: The number of the segment of each pixel, from 0: (height, width) of the image, an array, a
                tensor or lists. A patch that several segments share is divided among them by area.

        Returns:
            A number per segment, float64; 0 for segments that the model did not see.

        Raises:
            BadInput: The labels have another size, or are not whole numbers from 0 and below the number of pixels.
        """
        from nibt.results.segment_sums import segment_sums  # which maps of patches do not need

        return segment_sums(self.grid.double().numpy(), self.region, self.size, labels)

    def mask(self, threshold: float = 0.5) -> np.ndarray:
        """Return where the heatmap reaches the threshold, as ``Explanation.mask`` does."""
        return threshold_mask(self.heatmap(), float(self.grid.max()), threshold)

    def regions(self, threshold: float = 0.5) -> list[MapRegion]:
        """Return the connected parts of ``mask``, as ``Explanation.regions`` does."""
        from nibt.results.connected_regions import map_regions  # which masks do not need

        return map_regions(self.heatmap(), self.mask(threshold))


@dataclass(frozen=True, eq=False, kw_only=True)
class TextAttribution(Serializable):
    """The attribution of one caption.

    Attributes:
        modality: "text".
        caption: The caption.
        words: The words with their signed scores, the sums of the scores of their tokens.
        tokens: The tokens, with the padding that every caption of the model has.
        scores: The signed scores of the tokens; 0 for special tokens.
        special: Whether each token belongs to no word.
        special_token_share: The share of the absolute score on special tokens, in [0, 1].
        path: The path and the completeness of the scores, for methods that have one.
        error: The half-width of the 95 % interval of the score of each token, for scores that are estimated from random
            draws; None for others, and with too few draws.
        evaluations: The number of changed captions that the scores are estimated from; None without errors.
    """

    modality: Literal["text"] = "text"
    caption: str
    words: tuple[WordScore, ...]
    tokens: tuple[str, ...]
    scores: Annotated[Float[Tensor, " token"], Array(1)]
    special: Annotated[Bool[Tensor, " token"], Array(1, "boolean")]
    special_token_share: Annotated[PerExample, Array(is_share=True)]
    path: PathSummary | None = None
    error: Annotated[Float[Tensor, " token"], Array(1)] | None = None
    evaluations: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _tokens_fit(self) -> "TextAttribution":
        """Check what is read from a file; what nibt computes fits."""
        if self.error is not None:
            check_error("error", self.error, self.scores)
        for word in self.words:
            is_known = word.error is not None
            if is_known != (self.error is not None) or (word.error or 0) < 0:
                raise BadInput(
                    f"the error of the word {word.text!r:.40} must be a number of at least 0 if the tokens have "
                    f"errors, and else null (got {word.error})"
                )
        check_tokens(self.words, self.tokens, scores=self.scores, special=self.special)
        return self

    @classmethod
    def of(cls, attribution: Attribution, caption: str) -> "TextAttribution":
        """Build a caption's attribution from the scores of a method."""
        return cls(
            caption=caption,
            words=attribution.words,
            tokens=attribution.tokens,
            scores=attribution.scores,
            special=attribution.special,
            special_token_share=attribution.special_token_share,
            path=attribution.path,
            error=attribution.known_error,
            evaluations=next(iter(attribution.evaluations), None),
        )

    @property
    def source(self) -> str:
        """The caption, since a caption is identified by its text as an image is by its path."""
        return self.caption

    @property
    def units(self) -> Words:
        """The words and the tokens."""
        words = tuple(Word(word.text, word.tokens) for word in self.words)
        return Words((self.tokens,), (words,), ~self.special)


def check_error(name: str, error: Tensor, scores: Tensor) -> None:
    """Check that there is an error of each score, and that none is negative."""
    if error.shape != scores.shape or bool((error < 0).any()):
        least = f", the least is {float(error.min()):g}" if error.numel() else ""
        raise BadInput(
            f"{name} must have a number of at least 0 for each of the {tuple(scores.shape)} scores (got "
            f"{tuple(error.shape)} numbers{least})"
        )


def estimate_note(subject: str, side: "SideAttribution") -> Note | None:
    """Return the note on scores that are estimated from random draws; None for others, and for exact ones."""
    if side.evaluations is None:
        return None

    estimated = f"the {subject} are estimated from {side.evaluations:,} changed inputs"
    if side.error is None:
        return Note(ESTIMATE, f"{estimated}, too few to state their error: allow more of them")

    scores = side.scores
    errors = side.error.flatten()
    if isinstance(side, TextAttribution):
        scores = torch.tensor([word.score for word in side.words], dtype=torch.float32, device="cpu")
        errors = torch.tensor([word.error for word in side.words], dtype=torch.float32, device="cpu")

    if not errors.any():
        return None

    share = float(errors.max() / scores.abs().max())
    unsure = int((scores.abs() <= errors).sum())
    return Note(ESTIMATE, f"{estimated}{error_text(share, unsure, len(scores))}")


def error_text(share: float, unsure: int, count: int) -> str:
    """Return how large errors are, and how many of ``count`` scores may be 0, as the end of a sentence."""
    pale = f"; {unsure} of {count} cannot be told from 0 and are pale" if unsure else ""
    if not np.isfinite(share):
        return f", with an error that is no share of the largest one, which is 0{pale}"
    return f", with an error of at most {percent(share)} of the largest one (at 95\u00a0%){pale}"


def _inside(start: float, length: float, cells: int, size: float) -> np.ndarray:
    """Return the share of each cell along an axis that lies between 0 and a size, in pixels."""
    edges = start + length * np.arange(cells + 1) / cells
    inside = edges[1:].clip(max=size) - edges[:-1].clip(min=0)
    return inside.clip(min=0) * cells / length


class ImageFields(TypedDict):
    """What records have of an image that was read."""

    source: str
    image_hash: str
    size: tuple[int, int]
    input: ImageInput


def image_fields(image: ImageInput) -> ImageFields:
    """Return what records have of an image that was read."""
    return {"source": image.source, "image_hash": image.digest, "size": image.size, "input": image}


SideAttribution: TypeAlias = Annotated[ImageAttribution | TextAttribution, Field(discriminator="modality")]
