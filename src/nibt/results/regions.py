"""Regions of words: the signed table, words x patches, of one pair.

Let P_image and P_text be the contributions of patches and words to the unit embeddings u and v of the image and the
caption (``nibt.core.quadrature``). The table is P_text P_image^T. An entry is what a word and a patch *together* add
to the cosine. The sum over all rows and columns, special tokens included, is (u - u_baseline) . (v - v_baseline), up to
a gap.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, SupportsIndex, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import computed_field
from torch import Tensor

from nibt.data.objects import Box, read_box
from nibt.data.units import Grid, Word, Words, check_tokens
from nibt.errors import BadInput
from nibt.options import parsed
from nibt.results.base import Array, ResultOfImage, Serializable
from nibt.results.explanation import Explanation, method_text, shortened
from nibt.results.pixels import over_image
from nibt.results.records import SCHEMA, MethodRecord
from nibt.types import PerExample

Map: TypeAlias = Float[Tensor, "row column"]


def why_no_table(explanation: Explanation) -> str:
    """Return why an explanation of an image and a caption has no word-region table; empty if it may have one."""
    method = explanation.method
    target = explanation.target["name"]
    if target == "score":
        return "the model reads the image and the text in one network, so a word has no map of its own"
    if method["name"] != "nib":
        return f"{method['name']} gives each word a score, but no map; the method nib computes a word-region table"
    if explanation.model.get("similarity") == "logit":
        return "the class of a classifier is one unit, so its map is that of the image"
    if target != "cosine":
        return f"the word-region table explains the cosine, not the target {target}"
    if any(method.get(side, {}).get("noise", "none") != "none" for side in ("image", "text")):
        return "the word-region table is computed without noise"
    return ""


@dataclass(frozen=True, eq=False)
class Rest(Serializable):
    """The scores outside of a table, of tokens that belong to no word with a map, or to no patch.

    Attributes:
        image: The score of each word on image tokens that are no patches.
        text: The score of each patch for tokens that belong to no word with a map, rows x columns.
        both: What remains.
    """

    image: Annotated[Float[Tensor, " word"], Array(1)]
    text: Annotated[Map, Array(2)]
    both: Annotated[PerExample, Array()]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Regions(ResultOfImage):
    """The regions of the words of one pair: a signed table, words x patches.

    As all results of one image, it also has ``source``, ``image_hash``, ``size`` and ``region`` of the image, the image
    itself as ``input``, and ``model``, ``versions``, ``warnings`` and ``codes``.

    Attributes:
        caption: The caption.
        similarity: The similarity of the pair.
        method: The method with its resolved options.
        words: The words that have a map.
        tokens: The tokens of the caption, with the padding that every caption of the model has.
        special: Whether each token belongs to no word with a map.
        table: The signed maps of the words: words x rows x columns.
        rest: The scores outside of the table.
        product: What the scores would add up to without a gap: (u - u_baseline) . (v - v_baseline), or the change of
            the similarity with late interaction.
    """

    kind: ClassVar[str] = "regions"
    schema: ClassVar[int] = SCHEMA

    caption: str
    similarity: float
    method: MethodRecord
    words: tuple[Word, ...]
    tokens: tuple[str, ...]
    special: Annotated[Bool[Tensor, " token"], Array(1, "boolean")]
    table: Annotated[Float[Tensor, "word row column"], Array(3)]
    rest: Rest
    product: float

    def __post_init__(self) -> None:
        if not len(self.words) == len(self.table) == len(self.rest.image):
            raise BadInput(
                f"table and rest.image must have an entry for each word (got {len(self.table)} and "
                f"{len(self.rest.image)} for {len(self.words)} words)"
            )
        if self.table.shape[1:] != self.rest.text.shape:
            shapes = (" x ".join(map(str, shape)) for shape in (self.table.shape[1:], self.rest.text.shape))
            raise BadInput("rest.text must have the rows and columns of a map, {} (got {})".format(*shapes))
        check_tokens(self.words, self.tokens, special=self.special)

    @classmethod
    def of(cls, scores: Float[Tensor, "word patch"], grid: Grid, words: Words, **pair: Any) -> "Regions":
        """Build a result from a table with what belongs to no word or patch: its last row and its last column."""
        table = grid.unfold(scores[:-1, :-1])
        text = grid.unfold(scores[-1, :-1])
        rest = Rest(scores[:-1, -1], text, scores[-1, -1])
        return cls(
            words=words.words[0], tokens=words.tokens[0], special=~words.explained, table=table, rest=rest, **pair
        )

    @property
    def grid(self) -> Grid:
        """The grid of the patches."""
        return Grid(*self.table.shape[1:])

    @property
    def units(self) -> Words:
        """The words that have a map, and all tokens."""
        return Words((self.tokens,), (self.words,), ~self.special)

    @property
    def scores(self) -> Float[Tensor, "word patch"]:
        """The table with what belongs to no word or patch: (word + 1, patch + 1)."""
        of_patches = torch.cat([self.table, self.rest.text[None]]).flatten(1)
        of_no_patch = torch.cat([self.rest.image, self.rest.both[None]])
        return torch.cat([of_patches, of_no_patch[:, None]], 1)

    @computed_field
    @property
    def sum(self) -> float:
        """The sum of all scores."""
        return float(self.scores.sum())

    @computed_field
    @property
    def gap(self) -> float:
        """The signed completeness gap: product - sum."""
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

    def _lines(self) -> Iterator[str]:
        count, rows, columns = self.table.shape
        sums = [f"{word.text} {float(grid.sum()):+.4f}" for word, grid in zip(self.words, self.table, strict=True)]
        yield f"Regions of {self.source} with {self.caption!r}"
        yield f"  similarity {self.similarity:.4f}; {method_text(self.method)}; model {self.model.get('id')}"
        of_words = "1 word" if count == 1 else f"{count} words"
        yield f"  table  {of_words} x {rows} x {columns}, sum with the rest {self.sum:+.4f}, gap {self.gap:+.1g}"
        yield f"  words  {shortened(sums)}"

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
            BadInput: The box has other values, or does not overlap ``region``.
        """

        def along(start: float, length: float, first: float, extent: float, cells: int) -> Tensor:
            edges = first + extent * torch.arange(cells + 1, dtype=torch.float32, device="cpu") / cells
            inside = edges[1:].clamp(max=start + length) - edges[:-1].clamp(min=start)
            return inside.clamp_min(0) * cells / extent

        left, top, width, height = read_box(box)
        across = along(left, width, self.region.left, self.region.width, self.grid.columns)
        down = along(top, height, self.region.top, self.region.height, self.grid.rows)
        share = down[:, None] * across[None, :]  # of each patch
        if share.sum() == 0:
            region = tuple(self.region)
            raise BadInput(f"the box must overlap the region that the model saw, {region} (got {box})")

        sums = (self.table * share).sum((1, 2)).tolist()
        return list(zip(self.words, sums, strict=True))


def word_indices(words: Sequence[Word], wanted: Sequence[str | SupportsIndex]) -> list[int]:
    """Return the sorted indices of words that are named by their positions or their texts."""
    texts = [word.text.lower() for word in words]
    indices: set[int] = set()
    for word in wanted:
        if isinstance(word, str):
            indices.update(_indices_of_text(word, texts))
        else:
            indices.add(_checked_index(word, len(texts)))

    if not indices:
        raise BadInput(f"name at least one word of {', '.join(word.text for word in words)}")
    return sorted(indices)


def _checked_index(word: object, count: int) -> int:
    """Return the position of a word that is named by its position."""
    if not hasattr(word, "__index__") and not isinstance(word, float):
        raise BadInput(f"a word must be its text or its position in the caption (got {word!r:.60})")
    position = parsed("the position of a word", word, int)
    if not 0 <= position < count:
        raise BadInput(f"the position of a word must be between 0 and {count - 1} (got {word})")
    return position


def _indices_of_text(text: str, texts: Sequence[str]) -> Iterator[int]:
    """Yield the positions of the words of a text, wherever the caption has it."""
    parts = text.lower().split()
    starts = [start for start in range(len(texts)) if parts and texts[start : start + len(parts)] == parts]
    if not starts:
        raise BadInput(f"{text!r} is not in the caption: choose from its words {', '.join(texts)}")
    for start in starts:
        yield from range(start, start + len(parts))
