"""Explanations of an image with a caption, and comparisons of two images or two captions.

``SCHEMA`` is the version of the JSON form, which is described in ``docs/reference/json.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import Region
from nibt.data.units import WordScore
from nibt.records import read_record
from nibt.results.attribution import ImageAttribution, SideAttribution, TextAttribution, side_from_record
from nibt.results.map_regions import MapRegion
from nibt.results.records import SCHEMA, ComparisonRecord, ExplanationRecord, MethodRecord, ScoreRecord
from nibt.results.saving import JsonSerializable, check_schema
from nibt.types import ModelRecord

_Record = TypeVar("_Record")
MISMATCH = "the model does not rate these as a match: the map explains a low score"
"""The beginning of the mismatch warning. It is the first warning, and every report shows it before the map."""
NO_REACTION = "the model does not react to this caption"
"""The beginning of the warning that takes its place where the map is noise, which every report draws pale."""
WEAK = "the match is weak:"
"""The beginning of the warning on a similarity that is far below what the model gives to a match."""
NEGLIGIBLE = "the map is noise:"
"""The beginning of the note on a map whose scores are far below what the model gives to a match, drawn pale, too."""


@dataclass(frozen=True)
class Ranked:
    """A label with its cosine, and its softmax probability among the labels at the model's logit scale."""

    label: str
    cosine: float
    probability: float


@runtime_checkable
class Answer(Protocol):
    """The fields that explanations and comparisons share."""

    @property
    def sides(self) -> Mapping[str, SideAttribution]:
        """The attribution of each side, by the name of the side."""
        ...

    @property
    def similarity(self) -> float:
        """The cosine of the two embeddings."""
        ...

    @property
    def score(self) -> ScoreRecord:
        """The target, its options and its values."""
        ...

    @property
    def method(self) -> MethodRecord:
        """The method with all resolved options."""
        ...

    @property
    def model(self) -> ModelRecord:
        """The model and its hashes."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of packages."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the reader."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(JsonSerializable):
    """An explanation of an image with a caption: the scores of the image's patches and of the caption's words.

    Attributes:
        image: The attribution of the image; ``image.grid`` has the signed scores of its patches.
        text: The attribution of the caption; ``text.words`` has the signed scores of its words.
        similarity: The cosine of the pair, in [-1, 1].
        score: The target that was explained, with its value on each side.
        method: The method with its resolved options.
        model: The model: id, hash of the weights, device, dtype.
        versions: The versions of the packages that computed it.
        warnings: Warnings for the reader; a mismatch of the pair comes first.
        ranking: The ranked labels, if labels were explained.

    """

    kind: ClassVar[str] = "explanation"

    image: ImageAttribution
    text: TextAttribution
    similarity: float
    score: ScoreRecord
    method: MethodRecord
    model: ModelRecord
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    ranking: tuple[Ranked, ...] = ()

    @property
    def sides(self) -> Mapping[str, SideAttribution]:
        """Both attributions by the names of their sides."""
        return {"image": self.image, "text": self.text}

    @property
    def caption(self) -> str:
        """The caption."""
        return self.text.caption

    @property
    def source(self) -> str:
        """The path or the URL of the image, or a description of it."""
        return self.image.source

    @property
    def region(self) -> Region:
        """The part of the image that the grid covers, in pixels."""
        return self.image.region

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image, in pixels."""
        return self.image.size

    @property
    def grid(self) -> Float[Tensor, "row column"]:
        """The signed scores of the patches, rows x columns."""
        return self.image.grid

    @property
    def words(self) -> tuple[WordScore, ...]:
        """The words with their signed scores."""
        return self.text.words

    def heatmap(self) -> np.ndarray:
        """Return the signed scores in the pixels of the image, resized bilinearly as in the pictures.

        Returns:
            float32, (height, width); NaN outside ``region``, which the model did not see.

        """
        return self.image.heatmap()

    def mask(self, threshold: float = 0.5) -> np.ndarray:
        """Return where the heatmap is at least ``threshold`` times the largest positive score of the map.

        Returns:
            bool, (height, width); all False if no score is positive.

        Raises:
            BadOption: The threshold is not above 0 and at most 1.

        """
        return self.image.mask(threshold)

    def regions(self, threshold: float = 0.5) -> list[MapRegion]:
        """Return the connected parts of ``mask`` with their boxes, peaks and outlines.

        ``nibt.to_coco`` returns them in the format of COCO.

        Args:
            threshold: The least score of a region, as a share of the largest positive score of the map.

        Returns:
            The regions, those with the largest scores first; empty if no score is positive.

        Raises:
            BadOption: The threshold is not above 0 and at most 1.

        """
        return self.image.regions(threshold)

    def _repr_html_(self) -> str | None:
        """Return the page that notebooks show; None if the image is missing."""
        return import_module("nibt.report.notebook").display_data(self, "text/html")  # the drawing code knows results

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"Explanation of {self.source} with {self.caption!r}",
                f"  {question_line(self)}",
                f"  grid   {_short(self.image)}",
                f"  words  {_short(self.text)}",
                *(f"  warning: {warning}" for warning in self.warnings),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            **record(self),
            **{name: side.to_json() for name, side in self.sides.items()},
            "ranking": [asdict(label) for label in self.ranking],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Explanation":
        record = read_answer(ExplanationRecord, data, "explanation")
        return cls(
            ImageAttribution.from_record(record.image),
            TextAttribution.from_record(record.text),
            **_shared(record),
            ranking=tuple(Ranked(label.label, label.cosine, label.probability) for label in record.ranking),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(JsonSerializable):
    """A comparison of two images or two captions: the scores of the patches or words that make them similar.

    Attributes:
        first: The attribution of the first image or caption, compared with the second.
        second: The attribution of the second image or caption, compared with the first.
        similarity: The cosine of the two, in [-1, 1].
        score: The target that was explained, with its value on each side.
        method: The method with its resolved options.
        model: The model: id, hash of the weights, device, dtype.
        versions: The versions of the packages that computed it.
        warnings: Warnings for the reader.

    """

    kind: ClassVar[str] = "comparison"

    first: SideAttribution
    second: SideAttribution
    similarity: float
    score: ScoreRecord
    method: MethodRecord
    model: ModelRecord
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def sides(self) -> Mapping[str, SideAttribution]:
        """Both attributions by the names of their sides."""
        return {"first": self.first, "second": self.second}

    def _repr_html_(self) -> str | None:
        """Return the page that notebooks show; None if the image is missing."""
        return import_module("nibt.report.notebook").display_data(self, "text/html")  # the drawing code knows results

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"Comparison of {self.first.source} with {self.second.source}",
                f"  {question_line(self)}",
                *(f"  {name:6} {_short(side)}" for name, side in self.sides.items()),
                *(f"  warning: {warning}" for warning in self.warnings),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            **record(self),
            **{name: side.to_json() for name, side in self.sides.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Comparison":
        record = read_answer(ComparisonRecord, data, "comparison")
        return cls(side_from_record(record.first), side_from_record(record.second), **_shared(record))


def read_answer(kind: type[_Record], data: Mapping[str, Any], name: str) -> _Record:
    """Return the record of an answer's JSON form."""
    check_schema(data, name, SCHEMA)
    return read_record(kind, data, name)


def question_line(answer: Answer) -> str:
    """Return the similarity, the method, the target and the model in one line."""
    request = f"{method_text(answer.method)} explains {answer.score.get('target')}"
    return f"similarity {answer.similarity:.4f}; {request}; model {answer.model.get('id')}"


def method_text(method: MethodRecord) -> str:
    """Return the name of a method, with its variant unless it is the default."""
    variant = method.get("variant", "default")
    return str(method.get("name")) if variant == "default" else f"{method.get('name')} ({variant})"


def shortened(texts: Sequence[str], most: int = 8) -> str:
    """Return texts in one line: at most ``most`` of them, and the number of the others.

    >>> shortened(["a", "b", "c"], 2)
    'a, b, and 1 more'

    """
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])


def mismatch(warnings: Sequence[str]) -> str:
    """Return the gravest warning: that the model does not react, no match, noise, a weak match; empty without one."""
    starts = (NO_REACTION, MISMATCH, NEGLIGIBLE, WEAK)
    return next((warning for start in starts for warning in warnings if warning.startswith(start)), "")


def is_noise(warnings: Sequence[str]) -> bool:
    """Return whether the map is noise, since the model does not react to the caption or the scores are negligible."""
    return any(warning.startswith((NO_REACTION, NEGLIGIBLE)) for warning in warnings)


def other_warnings(warnings: Sequence[str]) -> tuple[str, ...]:
    """Return all warnings except the one that ``mismatch`` returns."""
    return tuple(warning for warning in warnings if warning != mismatch(warnings))


def record(answer: Answer) -> dict[str, Any]:
    """Return the shared fields of an answer as plain data."""
    return {
        "similarity": answer.similarity,
        "score": dict(answer.score),
        "method": dict(answer.method),
        "model": dict(answer.model),
        "versions": dict(answer.versions),
        "warnings": list(answer.warnings),
    }


def _shared(record: ExplanationRecord | ComparisonRecord) -> dict[str, Any]:
    """Return the fields that explanations and comparisons share."""
    return {
        "similarity": record.similarity,
        "score": record.score,
        "method": record.method,
        "model": record.model,
        "versions": record.versions,
        "warnings": tuple(record.warnings),
    }


def _short(side: SideAttribution) -> str:
    """Return the scores of a side in one line."""
    if isinstance(side, TextAttribution):
        return shortened([f"{word.text} {word.score:+.4f}" for word in side.words])
    rows, columns = side.grid.shape
    return f"{rows} x {columns}, from {float(side.grid.min()):+.4f} to {float(side.grid.max()):+.4f}"
