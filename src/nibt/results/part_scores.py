"""The known parts of evidence in one image, and the share of the map's sum that each carries."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import computed_field, model_validator
from torch import Tensor

from nibt.results.base import Array, Serializable

PartVerdict = Literal["shortcut", "cannot tell", "object", "not needed", "no verdict"]
Mark = Literal["", "may", "must not"]
"""What a person says of a part: the model may use it, or must not; empty if nothing is said."""


@dataclass(frozen=True)
class PartScore:
    """A known part that an image has.

    Attributes:
        number: The number of the part in the file of parts, from 1.
        name: Its name; empty if it has none.
        verdict: Its verdict over the data set that it is from.
        score: The sum of the scores of its cells in the map.
        mark: Its mark in the file of parts.
    """

    number: int
    name: str
    verdict: PartVerdict
    score: float
    mark: Mark = ""

    @property
    def title(self) -> str:
        """The number and the name."""
        return f"part {self.number}: {self.name}" if self.name else f"part {self.number}"


@dataclass(frozen=True, eq=False)
class PartScores(Serializable):
    """The known parts in an image. Their scores and the rest add up to the sum of the map.

    Attributes:
        fingerprint: That of the file of parts: the hash of the weights, the layer and the grid.
        cells: The number of the part of each cell of the map, rows x columns; 0 for cells of no known part.
        parts: The parts that have cells, the largest scores first.
        rest: The sum of the scores of all other cells.
    """

    fingerprint: str
    cells: Annotated[Float[Tensor, "row column"], Array(2, "integer")]
    parts: tuple[PartScore, ...]
    rest: float

    @model_validator(mode="after")
    def _of_the_cells(self) -> "PartScores":
        """Check that the parts of plain data are those of its cells."""
        listed = sorted(part.number for part in self.parts)
        of_cells = sorted(int(number) for number in self.cells.unique() if number)
        if listed != of_cells or min(of_cells, default=1) < 1:
            raise ValueError(f"parts must be those of cells, {of_cells} (got {listed})")
        return self

    @computed_field
    @property
    def total(self) -> float:
        """The sum of all scores of the map."""
        return self.rest + sum(part.score for part in self.parts)

    @property
    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """The rows of a table: the titles, the verdicts with marks, the scores, and their shares of a positive sum."""
        for part in self.parts:
            yield part.title, ", ".join(filter(None, (part.verdict, part.mark))), *self._numbers(part.score)
        yield "the rest", "", *self._numbers(self.rest)
        yield "sum of the map", "", *self._numbers(self.total)

    def _numbers(self, score: float) -> tuple[str, str]:
        return f"{score:+z.4f}", f"{score / self.total:z.0%}" if self.total > 0 else "-"


HEADINGS = ("part", "verdict", "score", "share")
"""The headings of ``PartScores.rows``."""
