"""Data sets with several captions for an image: which of them make a pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch

from nibt.data.images import ImageInput
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput, BadOption

CaptionScorer: TypeAlias = Callable[[ImageInput, Sequence[str]], Any]
CHOICES = ("first", "best", "all")


@dataclass(frozen=True, kw_only=True)
class CaptionedDataset(LocalDataset):
    """``choice`` says which captions of an image make a pair: the ``first``, the ``best`` or ``all``, a pair each.

    The best is the one that fits its own image best. That needs a model, and data sets stand below models, so
    ``scorer`` is to be given: a function of an image and its captions that gives a number for each caption. The first
    of equals is taken. (The paper chose in this way, but its code held the captions of a whole batch against the first
    image of the batch.) ``count`` counts pairs.
    """

    choice: str = "first"
    scorer: CaptionScorer | None = field(default=None, repr=False, compare=False)
    _best: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise BadOption(f"choice must be one of {', '.join(CHOICES)} (got {self.choice!r})")
        if (self.choice == "best") != (self.scorer is not None):
            raise BadOption(
                "choice='best' and scorer go together: scorer is a function of an image and its captions that "
                "gives a number for each caption, such as their cosines by a model"
            )
        super().__post_init__()

    def expanded(self, records: list[Record]) -> list[Record]:
        if self.choice != "all":
            return records
        return [replace(record, captions=(caption,)) for record in records for caption in record.captions]

    def chosen(self, record: Record, image: ImageInput) -> str:
        if self.scorer is None:
            return record.captions[0]
        if record.where not in self._best:  # an item may be asked for several times, and a model is slow
            self._best[record.where] = self._fitting(record, image, self.scorer)
        return self._best[record.where]

    def _fitting(self, entry: Record, image: ImageInput, scorer: CaptionScorer) -> str:
        scores = torch.as_tensor(scorer(image, entry.captions)).flatten()
        if len(scores) != len(entry.captions) or scores.isnan().any():
            raise BadInput(
                f"{entry.where}: scorer must give a number for each of {len(entry.captions)} captions "
                f"(got {scores.tolist()})"
            )
        return entry.captions[scores.tolist().index(scores.max().item())]
