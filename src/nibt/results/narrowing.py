"""Narrowing curves: the score against lambda, and against the information that a bottleneck lets through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import ClassVar

from nibt.errors import BadInput
from nibt.records import JsonObject
from nibt.results.base import Result
from nibt.results.explanation import method_text
from nibt.results.records import MethodRecord
from nibt.types import ModelRecord

Information = tuple[float | None, ...]
"""Nats per unit at each position; None where it has no limit."""


@dataclass(frozen=True)
class CurvePair:
    """A pair of a curve.

    Attributes:
        source: The path or the URL of the image, or a description of it.
        image_hash: A digest of the image's bytes.
        caption: The caption.

    """

    source: str
    image_hash: str
    caption: str


@dataclass(frozen=True)
class SideCurve:
    """The curve of one side.

    Attributes:
        scores: The target at each position, for each pair.
        information: The information about the hidden state that passes, in nats, as a mean over the patches or the
            tokens of words, for each pair.

    """

    scores: tuple[tuple[float, ...], ...]
    information: tuple[Information, ...]

    @property
    def mean_scores(self) -> tuple[float, ...]:
        """The mean over the pairs of the target at each position."""
        return tuple(map(fmean, zip(*self.scores, strict=True)))

    @property
    def mean_information(self) -> Information:
        """The mean over the pairs of the information at each position."""
        columns = zip(*self.information, strict=True)
        return tuple(map(_mean, columns))


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean, or None if a value has no limit."""
    finite = [value for value in values if value is not None]
    return fmean(finite) if len(finite) == len(values) else None


@dataclass(frozen=True, eq=False, repr=False)
class NarrowingCurve(Result):
    """The score of pairs while their hidden states are narrowed to a baseline: z(l) = l h + (1 - l) e.

    Attributes:
        positions: The values of l, from 0 (the baseline, or noise only) to 1 (the hidden state).
        sides: The curves of the sides, by modality.
        pairs: The pairs, in the order of the curves.
        target: The name of the target.
        method: NIB with its resolved options: the layers, the baseline and the noise e.
        model: The model and its hashes.
        versions: The versions of packages.
        warnings: Warnings for the reader.

    """

    kind: ClassVar[str] = "narrowing_curve"
    schema: ClassVar[int] = 1

    positions: tuple[float, ...]
    sides: Mapping[str, SideCurve]
    pairs: tuple[CurvePair, ...]
    target: str
    method: MethodRecord
    model: ModelRecord
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.pairs and self.sides and self.positions):
            raise BadInput("a curve must have a pair, a side and a position (got none)")
        for name, side in self.sides.items():
            for values in (side.scores, side.information):
                lengths = [len(curve) for curve in values]
                if lengths != [len(self.positions)] * len(self.pairs):
                    raise BadInput(
                        f"sides.{name} must have {len(self.positions)} scores and values of information, one per "
                        f"position, for each of {len(self.pairs)} pairs (got {lengths})"
                    )

    def __getitem__(self, index: int) -> "NarrowingCurve":
        """Return the curve of one pair."""
        sides = {
            name: SideCurve((side.scores[index],), (side.information[index],)) for name, side in self.sides.items()
        }
        return replace(self, sides=sides, pairs=(self.pairs[index],))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __repr__(self) -> str:
        ends = [
            f"  {name}  {self.target} from {side.mean_scores[0]:.4f} to {side.mean_scores[-1]:.4f}"
            for name, side in self.sides.items()
        ]
        what = f"{self.pairs[0].source} with {self.pairs[0].caption!r}" if len(self) == 1 else f"{len(self)} pairs"
        return "\n".join(
            [
                f"NarrowingCurve of {what}, {len(self.positions)} positions",
                f"  {method_text(self.method)}; model {self.model.get('id')}",
                *ends,
                *(f"  warning: {warning}" for warning in self.warnings),
            ]
        )

    def request(self) -> JsonObject:
        names = ("kind", "pairs", "target", "method", "model")
        data = self.to_json()
        return {**{name: data[name] for name in names}, "positions": list(self.positions), "sides": list(self.sides)}
