"""Which words go with which patches: the signed table of one pair, and how it is read.

With P_image and P_text the contributions of patches and words to the two unit embeddings
(``nibt.engine.jacobians``), the table is P_text P_image^T: what the word's and the patch's shares of the two states add
to the cosine *together*. All of it, with the rows that stand for no word or patch, adds up to
(u - u_baseline) . (v - v_baseline).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import override

from nibt.data.images import ImageInput, Region
from nibt.data.pair import Box
from nibt.data.units import Grid, Word, Words
from nibt.errors import BadInput
from nibt.results.attribution import image_at, over_image
from nibt.results.explanation import method_text, read_answer, shortened
from nibt.results.records import SCHEMA, InteractionRecord, MethodRecord, ModelRecord
from nibt.results.saving import JsonSerializable

Map: TypeAlias = Float[Tensor, "row column"]


@dataclass(frozen=True, eq=False, repr=False)
class Interaction(JsonSerializable):
    """The words x patches table of one pair.

    ``scores`` has a row for each word (of those that were asked for) and a last one for all other tokens, a column for
    each patch and a last one for the rows that are none. ``product`` is what all of it ought to add up to.
    """

    kind: ClassVar[str] = "interaction"

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
        """The words that have a map each."""
        return self.units.words[0]

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the caption, padding included."""
        return self.units.tokens[0]

    @property
    def special(self) -> Bool[Tensor, " token"]:
        """Which tokens are no part of a word that has a map."""
        return ~self.units.explained

    @property
    def table(self) -> Float[Tensor, "word row column"]:
        """The signed table, words x rows x columns, without what stands for no word or patch."""
        return self.grid.unfold(self.scores[:-1, :-1])

    @property
    def rest(self) -> Mapping[str, Any]:
        """What stands for no word or no patch: ``image``, a number per word; ``text``, rows x columns; ``both``."""
        text = self.grid.unfold(self.scores[-1, :-1])
        return {"image": self.scores[:-1, -1], "text": text, "both": self.scores[-1, -1]}

    @property
    def sum(self) -> float:
        """The sum of all scores."""
        return float(self.scores.sum())

    @property
    def gap(self) -> float:
        """The signed completeness gap: what the sum of all scores ought to be, minus the sum."""
        return self.product - self.sum

    def heatmap(self, *words: str | int) -> np.ndarray:
        """Return the region of some words, or of all, in the pixels of the image.

        Signed, float32, (height, width); 0 where the model did not see.

        Raises:
            BadInput: There is no such word.

        """
        return over_image(self.for_words(*(words or range(len(self.words)))), self.region, self.size)

    def __repr__(self) -> str:
        count, rows, columns = self.table.shape
        sums = [f"{word.text} {float(one.sum()):+.4f}" for word, one in zip(self.words, self.table, strict=True)]
        return "\n".join(
            [
                f"Interaction of {self.source} with {self.caption!r}",
                f"  similarity {self.similarity:.4f}; {method_text(self.method)}; model {self.model.get('id')}",
                f"  table  {count} words x {rows} x {columns}, sum {self.sum:+.4f}, gap {self.gap:+.1g}",
                f"  words  {shortened(sums)}",
                *(f"  warning: {warning}" for warning in self.warnings),
            ]
        )

    def for_words(self, *words: str | int) -> Map:
        """The region of some words: the sum of their maps, rows x columns.

        ``words`` are numbers of words of the table, from 0, or texts of one or several words as they stand in the
        caption; a text that stands there more than once means all of its places.

        Raises:
            BadInput: There is no such word.

        """
        return self.table[places(self.words, words)].sum(0)

    def for_region(self, box: Box) -> list[tuple[Word, float]]:
        """The words of a region: the sum of each word's scores over a box.

        ``box`` is left, top, width and height in pixels of the upright image; a patch counts by the share of it
        that lies in the box.

        Raises:
            BadInput: The box lies outside of what the model saw.

        """
        share = self._covered(box)
        if share.sum() == 0:
            raise BadInput(f"the box {box} lies outside of what the model saw: {tuple(asdict(self.region).values())}")
        sums = (self.table * share).sum((1, 2)).tolist()
        return list(zip(self.words, sums, strict=True))

    def _covered(self, box: Box) -> Map:
        """The share of each patch that lies in a box."""

        def along(start: float, length: float, first: float, extent: float, cells: int) -> Tensor:
            edges = first + extent * torch.arange(cells + 1, dtype=torch.float32, device="cpu") / cells
            inside = edges[1:].clamp(max=start + length) - edges[:-1].clamp(min=start)
            return inside.clamp_min(0) * cells / extent

        left, top, width, height = map(float, box)
        across = along(left, width, self.region.left, self.region.width, self.grid.columns)
        down = along(top, height, self.region.top, self.region.height, self.grid.rows)
        return down[:, None] * across[None, :]

    @override
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

    @override
    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Interaction":
        record = read_answer(InteractionRecord, data, "interaction")
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


def places(words: Sequence[Word], wanted: Sequence[str | int]) -> list[int]:
    """Which of some words are asked for, by their numbers or by texts, in their order.

    Raises:
        BadInput: Nothing is asked for, or a word that is not there.

    """
    chosen = sorted({place for one in wanted for place in _places([word.text.lower() for word in words], one)})
    if not chosen:
        raise BadInput(f"name at least one word of {', '.join(word.text for word in words)}")
    return chosen


def _places(texts: list[str], wanted: str | int) -> list[int]:
    if isinstance(wanted, int):
        if not 0 <= wanted < len(texts):
            raise BadInput(f"the words have the numbers 0..{len(texts) - 1} (got {wanted})")
        return [wanted]
    parts = wanted.lower().split()
    starts = [place for place in range(len(texts)) if parts and texts[place : place + len(parts)] == parts]
    if not starts:
        raise BadInput(f"{wanted!r} does not stand in the caption; its words are {', '.join(texts)}")
    return [start + step for start in starts for step in range(len(parts))]
