"""Decompositions: the similarity of one pair as an exact sum over layers, heads and patches or tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import computed_field
from torch import Tensor

from nibt.data.units import Grid, Word, Words, check_tokens
from nibt.errors import BadInput, BadOption
from nibt.options import Range, parsed
from nibt.records import JsonObject
from nibt.results.attribution import Attribution, ImageAttribution, SideAttribution, TextAttribution
from nibt.results.base import Array, ResultOfImage
from nibt.results.explanation import shortened
from nibt.results.frames import DataFrame, pandas


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Decomposition(ResultOfImage):
    """The similarity of one pair, split into what the heads and the perceptrons (MLPs) of one tower add to it.

    As all results of one image, it also has ``source``, ``image_hash``, ``size`` and ``region`` of the image, the image
    itself as ``input``, and ``model``, ``versions``, ``warnings`` and ``codes``.

    Attributes:
        side: The side that is decomposed: "image" or "text".
        caption: The caption.
        similarity: The similarity of the pair, as the model computes it.
        maps: What each head adds for each patch that it reads: layers x heads x rows x columns. For a caption, there is
            one row with a column per token.
        rest: What each head adds for image tokens that are no patches, such as the class token: layers x heads.
        perceptrons: What the perceptron (MLP) of each block adds, followed by that of the model's head if it pools by
            attention, or else 0.
        first: What the first state adds: the patches or words with their positions.
        constant: What biases add.
        words: The words of a decomposed caption.
        tokens: The tokens of a decomposed caption, with the padding that every caption of the model has.
        special: Whether each token belongs to no word.
    """

    kind: ClassVar[str] = "decomposition"
    schema: ClassVar[int] = 1

    side: Literal["image", "text"]
    caption: str
    similarity: float
    maps: Annotated[Float[Tensor, "layer head row column"], Array(4)]
    rest: Annotated[Float[Tensor, "layer head"], Array(2)]
    perceptrons: Annotated[Float[Tensor, " perceptron"], Array(1)]
    first: float
    constant: float
    words: tuple[Word, ...] = ()
    tokens: tuple[str, ...] = ()
    special: Annotated[Bool[Tensor, " token"], Array(1, "boolean")]

    def __post_init__(self) -> None:
        layers, heads, rows, columns = self.maps.shape
        if self.rest.shape != (layers, heads) or len(self.perceptrons) != layers + 1:
            raise BadInput(
                f"rest must have {layers} x {heads} entries, and perceptrons {layers + 1} (got "
                f"{' x '.join(map(str, self.rest.shape))} and {len(self.perceptrons)})"
            )

        if self.side == "text":
            check_tokens(self.words, self.tokens, special=self.special)
            if (rows, columns) != (1, len(self.tokens)):
                raise BadInput(f"maps must have 1 row and {len(self.tokens)} columns (got {rows} x {columns})")

    @property
    def heads(self) -> Tensor:
        """What each head adds: layers x heads x rows x columns of an image, layers x heads x tokens of a caption."""
        return self.maps if self.side == "image" else self.maps[:, :, 0]

    @property
    def sums(self) -> Float[Tensor, "layer head"]:
        """What each head adds over all tokens."""
        return self.maps.sum((2, 3)) + self.rest

    @computed_field
    @property
    def sum(self) -> float:
        """The sum of all parts."""
        numbers = self.maps.double().sum() + self.rest.double().sum() + self.perceptrons.double().sum()
        return float(numbers) + self.first + self.constant

    @computed_field
    @property
    def gap(self) -> float:
        """What the sum misses of the similarity by rounding: similarity - sum."""
        return self.similarity - self.sum

    def head(self, layer: int, head: int) -> SideAttribution:
        """Return the map of one head, with the image or the words.

        Args:
            layer: The number of the block, from 0.
            head: The number of the head, from 0.

        Raises:
            BadOption: There is no such head.
        """
        layers, heads = self.rest.shape
        numbers = all(isinstance(number, int) and not isinstance(number, bool) for number in (layer, head))
        if not numbers or not (0 <= layer < layers and 0 <= head < heads):
            raise BadOption(
                f"layer must be between 0 and {layers - 1}, and head between 0 and {heads - 1} (got {layer} and {head})"
            )

        scores = self.maps[layer, head].flatten()
        rest = self.rest[layer, head]
        outside = rest.abs() if self.side == "image" else scores[self.special].abs().sum()
        share = outside / (scores.abs().sum() + rest.abs()).clamp_min(1e-30)
        if self.side == "image":
            attribution = Attribution(scores, Grid(*self.maps.shape[2:]), share)
            return ImageAttribution.of(
                attribution,
                source=self.source,
                size=self.size,
                region=self.region,
                image_hash=self.image_hash,
                input=self.input,
            )

        units = Words((self.tokens,), (self.words,), ~self.special)
        return TextAttribution.of(Attribution(scores.masked_fill(self.special, 0.0), units, share), self.caption)

    def strongest(self, count: int = 5) -> list[tuple[int, int]]:
        """Return the layers and heads with the largest absolute sums, in order.

        Raises:
            BadOption: The count is no whole number above 0.
        """
        count = parsed("count", count, Annotated[int, Range(1)])
        order = torch.sort(self.sums.abs().flatten(), descending=True, stable=True).indices[:count]
        return [(int(place) // self.rest.shape[1], int(place) % self.rest.shape[1]) for place in order]

    def to_frame(self) -> DataFrame:
        """Return all parts as a pandas DataFrame, whose scores add up to the similarity.

        Returns:
            A row per head, perceptron and remaining part: ``part`` (``head``, ``perceptron``, ``first``, ``constant``),
            ``layer`` and ``head`` (missing where there is none), and ``score``.

        Raises:
            Unsupported: pandas is not installed.
        """
        rows = [
            {"part": "head", "layer": layer, "head": head, "score": score}
            for layer, scores in enumerate(self.sums.tolist())
            for head, score in enumerate(scores)
        ]
        rows += [
            {"part": "perceptron", "layer": layer, "score": score}
            for layer, score in enumerate(self.perceptrons.tolist())
        ]
        rows += [{"part": name, "score": getattr(self, name)} for name in ("first", "constant")]
        frame = pandas().DataFrame(rows)
        return frame.astype({"layer": "Int64", "head": "Int64"})

    def request(self) -> JsonObject:
        return {**super().request(), "side": self.side}

    def _lines(self) -> Iterator[str]:
        layers, heads = self.rest.shape
        strongest = [f"{layer}.{head} {float(self.sums[layer, head]):+.4f}" for layer, head in self.strongest()]
        yield f"Decomposition of {self.source} with {self.caption!r}, {self.side} side"
        yield f"  similarity {self.similarity:.4f}, gap {self.gap:+.1g}; model {self.model.get('id')}"
        yield (
            f"  {layers} x {heads} heads {float(self.sums.sum()):+.4f}, perceptrons "
            f"{float(self.perceptrons.sum()):+.4f}, first state {self.first:+.4f}, constant {self.constant:+.4f}"
        )
        yield f"  strongest heads (layer.head)  {shortened(strongest)}"
