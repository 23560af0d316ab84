"""The score that metrics evaluate, if it is not the one that is explained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nibt.data.pair import Pair
from nibt.engine.encode import encode
from nibt.engine.targets import check_target, model_score
from nibt.errors import BadInput, BadOption
from nibt.evaluation.context import image_key, others_than
from nibt.models.base import Model
from nibt.registry import find
from nibt.targets.base import Target
from nibt.types import Embedding, MeasuredSide, Modality, PerExample


def score_target(name: str) -> Target:
    """Return the target of a name, which must not reword captions."""
    target: Target = find("targets", name)()
    if type(target).wordings is not Target.wordings:
        raise BadOption(
            f"measured must be explained, cosine, logit, softmax, difference or centered (got {target.name}, which "
            "rewords captions)"
        )
    return target


@dataclass(frozen=True)
class MeasuredScore:
    """The measured target; by side, embeddings to compare with under keys, and the key of each pair itself."""

    model: Model
    target: Target
    others: dict[Modality, tuple[list[Any], Embedding]]
    own: dict[Modality, list[Any]]

    @classmethod
    def of(
        cls,
        model: Model,
        target: Target,
        pairs: Sequence[Pair],
        against: tuple[str, ...],
        only: MeasuredSide | None,
    ) -> "MeasuredScore":
        """Encode all captions and images to compare with once for all batches."""
        check_target(model, target)
        if target.others == "none":
            return cls(model, target, {}, {})
        captions, images = [pair.caption for pair in pairs], [pair.image for pair in pairs]
        image_keys = [image_key(image) for image in images]
        others: dict[Modality, tuple[list[Any], Embedding]] = {}
        own: dict[Modality, list[Any]] = {"image": [None] * len(pairs) if against else captions, "text": image_keys}
        if only != "text":
            texts = list(against or dict.fromkeys(captions))
            others["image"] = texts, encode(model.text, texts)
        if only != "image":
            distinct = dict(zip(image_keys, images, strict=True))
            others["text"] = list(distinct), encode(model.image, list(distinct.values()))
        for side, (keys, _) in others.items():
            counts = [len(keys) - (key in keys) for key in own[side]]
            kind = "captions" if side == "image" else "images"
            if not min(counts):
                raise BadInput(
                    f"{target.name} on the {side} side compares with other {kind}, and the call has none: give "
                    "captions in against, more pairs, or side='image'"
                )
            if target.others == "one" and max(counts) > 1:
                raise BadOption(
                    f"{target.name} compares with one other, and the {side} side has {max(counts)} {kind}: give one in "
                    "against with side='image', or measure softmax"
                )
        return cls(model, target, others, own)

    def score(
        self, side: Modality, indices: Sequence[int], other_embeddings: Embedding
    ) -> Callable[[Embedding], PerExample]:
        """Return the score of a batch as a function of the embeddings of a side."""
        scores = []
        for index, other in zip(indices, other_embeddings, strict=True):
            others = others_than(self.others[side], self.own[side][index]) if side in self.others else None
            scores.append(replace(model_score(self.model, self.target, side, others), other=other))
        items = -1 - self.model.item_ndim

        def score(embeddings: Embedding) -> PerExample:
            rows = enumerate(scores)
            return torch.stack([of_pair(embeddings.select(items, row)) for row, of_pair in rows], -1)

        return score
