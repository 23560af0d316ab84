"""Data sets with several captions per image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeAlias

import torch

from nibt.data.images import ImageInput
from nibt.datasets._local import LocalDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput, BadOption
from nibt.options import OneOf

CaptionScorer: TypeAlias = Callable[[ImageInput, Sequence[str]], Any]


@dataclass(frozen=True, kw_only=True)
class CaptionedDataset(LocalDataset):
    """Base class of data sets with several captions per image. ``count`` is the number of pairs.

    The paper of NIB uses the best caption. Its code compares the captions of a whole batch with the first image of the
    batch; here, each caption is compared with its own image.

    Attributes:
        choice: The captions that form pairs: "first", "best" (that with the highest score), or "all" (a pair each).
        scorer: For "best", a function of an image and its captions that returns a number for each caption, such as the
            cosines of a model. If several captions have the highest score, the first one is chosen.

    """

    choice: Annotated[str, OneOf(("first", "best", "all"))] = "first"
    scorer: CaptionScorer | None = field(default=None, repr=False, compare=False)
    _best: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.choice == "best") != (self.scorer is not None):
            raise BadOption(
                "choice='best' and scorer must be used together: scorer is a function of an image and its captions "
                "that returns a number for each caption, such as the cosines of a model"
            )
        super().__post_init__()

    def expanded(self, records: list[Record]) -> list[Record]:
        if self.choice != "all":
            return records
        return [replace(record, captions=(caption,)) for record in records for caption in record.captions]

    def caption_of(self, record: Record, image: ImageInput) -> str:
        if self.scorer is None:
            return record.captions[0]
        if record.where not in self._best:  # the scorer is slow, and items may be read several times
            self._best[record.where] = self._best_caption(record, image, self.scorer)
        return self._best[record.where]

    def _best_caption(self, entry: Record, image: ImageInput, scorer: CaptionScorer) -> str:
        scores = torch.as_tensor(scorer(image, entry.captions)).flatten()
        if len(scores) != len(entry.captions) or scores.isnan().any():
            raise BadInput(
                f"{entry.where}: scorer must return a number for each of {len(entry.captions)} captions "
                f"(got {scores.tolist()})"
            )
        return entry.captions[scores.tolist().index(scores.max().item())]


def texts(value: Any, where: str, name: str = "a caption") -> tuple[str, ...]:
    """Return the captions of an image from a text or a list of texts."""
    captions = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not captions or not all(isinstance(caption, str) for caption in captions):
        raise BadInput(f"{where}: {name} must be a text, or a list of texts (got {value!r})")
    return captions
