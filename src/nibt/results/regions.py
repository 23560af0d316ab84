"""Regions of words: the signed table, words x patches, of one pair.

Let P_image and P_text be the contributions of patches and words to the unit embeddings u and v of the image and the
caption (``nibt.core.jacobians``). The table is P_text P_image^T. An entry is what a word and a patch *together* add
to the cosine. The sum over all rows and columns, special tokens included, is (u - u_baseline) . (v - v_baseline).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import index
from typing import Any, ClassVar, SupportsIndex, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.data.images import ImageInput, Region, image_at
from nibt.data.pair import Box
from nibt.data.units import Grid, Word, Words
from nibt.errors import BadInput
from nibt.results.attribution import over_image
from nibt.results.explanation import method_text, read_answer, shortened
from nibt.results.records import SCHEMA, MethodRecord, RegionsRecord
from nibt.results.saving import JsonSerializable
from nibt.types import ModelRecord

Map: TypeAlias = Float[Tensor, "row column"]


@dataclass(frozen=True, eq=False, repr=False)
class Regions(JsonSerializable):
    """The regions of the words of one pair: a signed table, words x patches.

    Attributes:
        caption: The caption.
        scores: The table with what belongs to no word or patch: (word + 1, patch + 1). The last row has all other
            tokens of the caption, the last column all image tokens that are no patches.
        grid: The grid of the patches.
        units: The words that have a row, and all tokens.
        region: The part of the upright image that the grid covers, in pixels.
        size: Width and height of the upright image, in pixels.
        similarity: The cosine of the pair, in [-1, 1].
        product: The exact sum of all scores: (u - u_baseline) . (v - v_baseline).
        method: The method with its resolved options.
        model: The model and its hashes.
        versions: The versions of packages.
        source: The path or the URL of the image, or a description of it.
        warnings: Warnings for the reader.
        input: The image itself; None if it is no longer at ``source``.
        image_hash: A digest of the image's bytes.

    """

    kind: ClassVar[str] = "regions"

    caption: str
    scores: Float[Tensor, "word patch"]
    grid: Grid
    units: Words
    region: Region
    size: tuple[int, int]
    similarity: float
    product: float
    method: MethodRecord
    model: ModelRecord
    versions: Mapping[str, str]
    source: str = ""
    warnings: tuple[str, ...] = ()
    input: ImageInput | None = field(default=None, repr=False, compare=False)
    image_hash: str = ""

    @property
    def words(self) -> tuple[Word, ...]:
        """The words that have a map."""
        return self.units.words[0]

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the caption, padding included."""
        return self.units.tokens[0]

    @property
    def special(self) -> Bool[Tensor, " token"]:
        """A mask of the tokens that belong to no word with a map."""
        return ~self.units.explained

    @property
    def table(self) -> Float[Tensor, "word row column"]:
        """The signed maps of the words: words x rows x columns."""
        return self.grid.unfold(self.scores[:-1, :-1])

    @property
    def rest(self) -> Mapping[str, Any]:
        """The scores outside of the table.

        ``image`` has the score of each word on image tokens that are no patches, ``text`` that of each patch for tokens
        of no word (rows x columns), and ``both`` what remains.
        """
        text = self.grid.unfold(self.scores[-1, :-1])
        return {"image": self.scores[:-1, -1], "text": text, "both": self.scores[-1, -1]}

    @property
    def sum(self) -> float:
        """The sum of all scores."""
        return float(self.scores.sum())

    @property
    def gap(self) -> float:
        """The signed completeness gap: ``product - sum``."""
        return self.product - self.sum

    def heatmap(self, *words: str | int) -> np.ndarray:
        """Return the sum of the maps of words, in the pixels of the image.

        Args:
            *words: Positions or texts, as in ``for_words``; none means all words.

        Returns:
            Signed scores: float32, (height, width); NaN outside ``region``, which the model did not see.

        Raises:
            BadInput: A word is not in the table.

        """
        grid = self.for_words(*(words or range(len(self.words))))
        return over_image(grid, self.region, self.size, outside=np.nan)

    def __repr__(self) -> str:
        count, rows, columns = self.table.shape
        sums = [f"{word.text} {float(one.sum()):+.4f}" for word, one in zip(self.words, self.table, strict=True)]
        return "\n".join(
            [
                f"Regions of {self.source} with {self.caption!r}",
                f"  similarity {self.similarity:.4f}; {method_text(self.method)}; model {self.model.get('id')}",
                f"  table  {count} words x {rows} x {columns}, sum {self.sum:+.4f}, gap {self.gap:+.1g}",
                f"  words  {shortened(sums)}",
                *(f"  warning: {warning}" for warning in self.warnings),
            ]
        )

    def for_words(self, *words: str | int) -> Map:
        """Return the sum of the maps of words: rows x columns.

        Args:
            *words: Positions of words in the table, from 0, or texts of one or several consecutive words. A text that
                occurs several times means all its occurrences.

        Raises:
            BadInput: A word is not in the table.

        """
        return self.table[word_indices(self.words, words)].sum(0)

    def for_region(self, box: Box) -> list[tuple[Word, float]]:
        """Return each word with the sum of its scores in a box.

        Args:
            box: Left, top, width and height in pixels of the upright image. A patch is weighted by the share of its
                area inside the box.

        Raises:
            BadInput: The box does not overlap ``region``.

        """
        share = self._covered(box)
        if share.sum() == 0:
            region = tuple(asdict(self.region).values())
            raise BadInput(f"the box must overlap the region that the model saw, {region} (got {box})")
        sums = (self.table * share).sum((1, 2)).tolist()
        return list(zip(self.words, sums, strict=True))

    def _covered(self, box: Box) -> Map:
        """Return the share of each patch that is inside a box."""

        def along(start: float, length: float, first: float, extent: float, cells: int) -> Tensor:
            edges = first + extent * torch.arange(cells + 1, dtype=torch.float32, device="cpu") / cells
            inside = edges[1:].clamp(max=start + length) - edges[:-1].clamp(min=start)
            return inside.clamp_min(0) * cells / extent

        left, top, width, height = map(float, box)
        across = along(left, width, self.region.left, self.region.width, self.grid.columns)
        down = along(top, height, self.region.top, self.region.height, self.grid.rows)
        return down[:, None] * across[None, :]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "source": self.source,
            "image_hash": self.image_hash,
            "size": list(self.size),
            "region": list(asdict(self.region).values()),
            "caption": self.caption,
            "similarity": self.similarity,
            "method": dict(self.method),
            "model": dict(self.model),
            "versions": dict(self.versions),
            "warnings": list(self.warnings),
            "words": [{"text": word.text, "tokens": list(word.tokens)} for word in self.words],
            "tokens": list(self.tokens),
            "special": self.special.tolist(),
            "table": self.table.tolist(),
            "rest": {name: value.tolist() for name, value in self.rest.items()},
            "sum": self.sum,
            "product": self.product,
            "gap": self.gap,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Regions":
        record = read_answer(RegionsRecord, data, "regions")
        rest, special = record.rest, torch.tensor(record.special, dtype=torch.bool, device="cpu")
        words = tuple(Word(word.text, tuple(word.tokens)) for word in record.words)
        inner = torch.tensor([*record.table, rest.text], dtype=torch.float32, device="cpu").flatten(1)
        column = torch.tensor([*rest.image, rest.both], dtype=torch.float32, device="cpu")[:, None]
        return cls(
            record.caption,
            torch.cat([inner, column], 1),
            Grid(len(rest.text), len(rest.text[0])),
            Words((tuple(record.tokens),), (words,), ~special),
            Region(*record.region),
            record.size,
            record.similarity,
            record.product,
            record.method,
            record.model,
            record.versions,
            record.source,
            tuple(record.warnings),
            image_at(record.source, record.image_hash),
            record.image_hash,
        )


def word_indices(words: Sequence[Word], wanted: Sequence[str | SupportsIndex]) -> list[int]:
    """Return the sorted indices of words that are named by their positions or their texts."""
    texts = [word.text.lower() for word in words]
    indices = sorted({place for word in wanted for place in _indices_of(texts, word)})
    if not indices:
        raise BadInput(f"name at least one word of {', '.join(word.text for word in words)}")
    return indices


def _indices_of(texts: list[str], wanted: str | SupportsIndex) -> list[int]:
    if not isinstance(wanted, str):
        if not 0 <= index(wanted) < len(texts):
            raise BadInput(f"the position of a word must be between 0 and {len(texts) - 1} (got {wanted})")
        return [index(wanted)]
    parts = wanted.lower().split()
    starts = [start for start in range(len(texts)) if parts and texts[start : start + len(parts)] == parts]
    if not starts:
        raise BadInput(f"{wanted!r} is not in the caption: choose from its words {', '.join(texts)}")
    return [start + offset for start in starts for offset in range(len(parts))]
