"""Explanations of an image with a caption, of two images, or of two captions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import tanh
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from nibt.data.images import Region
from nibt.data.units import WordScore
from nibt.errors import BadInput, MissingSide
from nibt.records import JsonObject
from nibt.registry import find
from nibt.results.attribution import ImageAttribution, SideAttribution, TextAttribution
from nibt.results.base import ResultWithMaps
from nibt.results.check import Check
from nibt.results.decisive import DecisiveRegion
from nibt.results.map_regions import MapRegion
from nibt.results.part_scores import PartScores
from nibt.results.records import SCHEMA, ExplainedTargetRecord, MethodRecord, Probability
from nibt.types import ModelRecord

_NAMES = {"image": "grid", "text": "words"}
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
    """A label or an image, its similarity, and its softmax probability among all at the model's logit scale.

    Attributes:
        label: The label, or the source of the image.
        similarity: Its similarity to what it was ranked for: the cosine, MaxSim, a logit, or the score of a model that
            reads both in one network, as in ``Explanation``.
        probability: Its softmax probability; for such a model, the sigmoid of its score.
        position: Its position in the list that was ranked, from 0.
    """

    label: str
    similarity: float
    probability: Probability
    position: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(ResultWithMaps):
    """An explanation of two inputs: the scores of the patches of images and of the words of captions.

    The sides of an image with a caption are ``image`` and ``text``; those of two images, or of two captions, are
    ``first`` and ``second``. With the target ``difference`` and one other image or caption, the other one is a third
    side, ``against``, with the scores for its own cosine, unless it is the baseline (``image_baseline=against``). The
    target is the cosine of the pair minus the cosine of ``against``. The sum of the scores of the compared side minus
    that of ``against`` is this target, up to the gaps and the difference of the baselines.

    Attributes:
        sides: The attributions, by the names of the sides.
        similarity: The similarity of the two embeddings: their cosine, in [-1, 1], for late interaction MaxSim, for
            classifiers the logit of the class, or the score of a model that reads both in one network.
        target: The target that was explained, with its value on each side.
        method: The method with its resolved options.
        model: The model: id, hash of the weights, device, dtype.
        versions: The versions of the packages that computed it.
        warnings: Warnings for the reader; a mismatch of the pair comes first.
        codes: The code of each warning, such as ``noise:image`` for a map of the image that is noise.
        ranking: The ranked labels or images, if there are any.
        checks: The checks of the map of the image, if ``nibt.check`` computed it.
        decisive: A small part of the map that keeps the decision of the model, or whose removal changes it, if
            ``nibt.decisive_region`` found one.
        parts: The known parts of evidence in the image, if ``nibt.part_scores`` found them.
    """

    kind: ClassVar[str] = "explanation"
    schema: ClassVar[int] = SCHEMA

    sides: Mapping[str, SideAttribution]
    similarity: float
    target: ExplainedTargetRecord
    method: MethodRecord
    model: ModelRecord
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    ranking: tuple[Ranked, ...] = ()
    checks: tuple[Check, ...] = ()
    decisive: DecisiveRegion | None = None
    parts: PartScores | None = None

    @model_validator(mode="after")
    def _sides_fit(self) -> "Explanation":
        """Check what is read from a file; what nibt computes fits."""
        modalities = [side.modality for side in self.sides.values()]
        has_names_of_pair = list(self.sides) in (["image", "text"], ["image", "text", "against"])
        is_pair = has_names_of_pair and modalities[:2] == ["image", "text"]
        if not is_pair and (list(self.sides) != ["first", "second"] or modalities[0] != modalities[1]):
            names = ", ".join(self.sides) or "none"
            expected = "image and text (and perhaps against), or first and second of one modality"
            raise BadInput(f"sides must be {expected} (got {names})")

        lacking = [name for name in self.sides if name not in self.target]
        if lacking:
            raise BadInput(f"target must have the value of each side (got none of {', '.join(lacking)})")

        for name, of_cells in (("decisive", self.decisive), ("parts", self.parts)):
            if of_cells is None:
                continue
            shape = of_cells.cells.shape
            if self.is_comparison or shape != self.grid.shape:
                raise BadInput(f"{name} must have the cells of the map of the image (got {tuple(shape)})")

        return self

    @property
    def is_comparison(self) -> bool:
        """Whether it compares two images or two captions."""
        return "first" in self.sides

    @property
    def image(self) -> ImageAttribution:
        """The attribution of the image; ``image.grid`` has the signed scores of its patches."""
        image = self._side("image")
        assert isinstance(image, ImageAttribution)
        return image

    @property
    def text(self) -> TextAttribution:
        """The attribution of the caption; ``text.words`` has the signed scores of its words."""
        text = self._side("text")
        assert isinstance(text, TextAttribution)
        return text

    @property
    def first(self) -> SideAttribution:
        """The attribution of the first image or caption, compared with the second."""
        return self._side("first")

    @property
    def second(self) -> SideAttribution:
        """The attribution of the second image or caption, compared with the first."""
        return self._side("second")

    @property
    def against(self) -> SideAttribution:
        """The attribution of the one image or caption that the target compares with."""
        return self._side("against")

    def _side(self, name: str) -> SideAttribution:
        if name not in self.sides:
            subject = "a comparison" if self.is_comparison else "an explanation of an image with a caption"
            raise MissingSide(f"{subject} has the sides {' and '.join(self.sides)}, without {name}")
        return self.sides[name]

    @property
    def caption(self) -> str:
        """The caption."""
        return self.text.caption

    @property
    def match_probability(self) -> float | None:
        """The model's own probability that the image and the caption match, in [0, 1].

        It is sigmoid(scale x similarity + bias), and None of models that were not trained for it: only SigLIP and its
        kind were, and their similarities may be small for right pairs.
        """
        sigmoid = self.model.get("sigmoid")
        if sigmoid is None or self.is_comparison:
            return None
        logit = sigmoid["scale"] * self.similarity + sigmoid["bias"]
        return (1 + tanh(logit / 2)) / 2  # the sigmoid, which cannot overflow in this form

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

    def request(self) -> JsonObject:
        decisive = {"decisive": self.decisive.region} if self.decisive else {}
        parts = {"parts": self.parts.fingerprint} if self.parts else {}
        return {**super().request(), **decisive, **parts}

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """The box of a detector whose score is explained, (left, top, right, bottom) in pixels; None for others."""
        corners = self.target.get("options", {}).get("box")
        return None if corners is None else tuple(map(float, corners))  # pyright: ignore

    def _repr_html_(self) -> str | None:
        """Return the page that notebooks show; None if the image is missing."""
        return find("formats", "html").framed(self)

    def _lines(self) -> Iterator[str]:
        first, second, *others = self.sides.values()
        subject = f"Comparison of {first.source} with {second.source}"
        if not self.is_comparison:
            subject = f"Explanation of {first.source} with {second.source!r}"
        yield subject + "".join(f", rather than {further.source}" for further in others)
        compared = self.model.get("similarity", "cosine").partition(":")[0]
        noun = {"logit": "logit", "cosine": "similarity", "max_sim": "similarity"}.get(compared, f"{compared} score")
        yield (
            f"  {noun} {self.similarity:.4f}; {method_text(self.method)} explains {self.target.get('name')}; "
            f"model {self.model.get('id')}"
        )
        for name, side in self.sides.items():
            if isinstance(side, TextAttribution):
                text = shortened([f"{word.text} {word.score:+.4f}" for word in side.words])
            else:
                rows, columns = side.grid.shape
                text = f"{rows} x {columns}, from {float(side.grid.min()):+.4f} to {float(side.grid.max()):+.4f}"
            yield f"  {_NAMES.get(name, name):6} {text}"

        yield from (f"  check: {check.verdict}: {check.about}" for check in self.checks)
        if self.decisive:
            yield f"  {self.decisive.about}"
        if self.parts:
            yield f"  parts  {shortened([f'{part.title} {part.score:+.4f}' for part in self.parts.parts])}"


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


def change_image(result: ResultWithMaps, side: str = "image", **changes: Any) -> Any:
    """Return an explanation of a pair or of an answer with other fields of its image, or of another side's."""
    if not isinstance(result, Explanation):
        return replace(cast(Any, result), **changes)
    return replace(result, sides={**result.sides, side: replace(result.sides[side], **changes)})
