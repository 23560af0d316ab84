"""What a model decides about an image with a caption: which caption or image is first, or how similar both are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.hidden_cells import Decisions, HiddenCells, MaskValues
from nibt.core.side import Side
from nibt.engine.encode import encode
from nibt.errors import BadOption
from nibt.evaluation.explained import explained_image
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.report.ranked import ranked_noun
from nibt.results.decisive import Decision
from nibt.results.explanation import Explanation


@dataclass(frozen=True, kw_only=True)
class HiddenImageCells(HiddenCells):
    """An image with some of its cells hidden, and the captions and images that are compared with it.

    Attributes:
        model: The model.
        texts: The embeddings of the explained caption and of those that are compared with it.
        cosines: The similarities of the images that are compared with it, which do not depend on hidden cells.
    """

    model: Model
    texts: Float[Tensor, "caption dim"]
    cosines: Float[Tensor, " image"]

    def candidates(self, values: MaskValues) -> Float[Tensor, "mask candidate"]:
        with_captions = self.model.similarity.to_each(values, self.texts)
        return torch.cat([with_captions, self.cosines.expand(len(values), -1)], 1)

    def margins(self, decision: Decision, candidates: Float[Tensor, "*example candidate"]) -> Float[Tensor, "*example"]:
        if decision == "probability":
            return (self.model.scale * candidates).softmax(-1)[..., 0]
        return super().margins(decision, candidates)


class ExplanationDecisions(Decisions, name="explanation"):
    """The cells of an image that is explained with a caption."""

    of = Explanation

    @classmethod
    @contextmanager
    def opened(
        cls, model: ModelSource, result: Explanation, word: int | str | None, hide: Any, writes: bool = False
    ) -> Iterator[HiddenImageCells]:
        if writes:
            raise BadOption("region must be keep or change for an image with a caption: correct is for answers")
        if word is not None:
            raise BadOption(f"word is for answers: leave it out for an image with a caption (got {word!r:.60})")

        model = load_model(model)
        image = explained_image(result, model, "decisive_region")
        compared = _compared(result, model)
        tower = model.image
        texts = encode(model.text, [result.caption, *compared.captions]).float()
        yield HiddenImageCells(
            side=Side(model, tower.trace(tower.prepare([image]), tower.depth), lambda embeddings: embeddings),
            scores=result.grid,
            hide=hide,
            names=compared.names,
            amount=_amount(result, compared),
            model=model,
            texts=texts,
            cosines=torch.tensor(compared.cosines, dtype=torch.float32, device=texts.device),
        )


def _amount(result: Explanation, compared: "_Compared") -> Decision:
    """Return what the image adds to, where the rank does not decide."""
    if not compared.names:
        return "similarity"
    return "probability" if result.target["name"] == "softmax" else "difference"


@dataclass(frozen=True)
class _Compared:
    """What is compared with the caption or the image of an explanation.

    Attributes:
        names: Captions, or names of images. The one that the target ``difference`` compares with comes first.
        captions: The captions among them.
        cosines: The similarities of the images among them with the caption.
    """

    names: Sequence[str] = ()
    captions: Sequence[str] = ()
    cosines: Sequence[float] = ()


def _compared(explanation: Explanation, model: Model) -> _Compared:
    """Return what is compared with the caption or the image: by the ranking, or by the target."""
    target = explanation.target
    captions = target["options"].get("against", []) if target["name"] in ("difference", "softmax") else []
    if captions:  # among which the caption itself counts once
        own = model.text.tokens(explanation.caption).ids
        captions = [caption for caption in captions if model.text.tokens(caption).ids != own]

    images = target["options"].get("against_images", []) if target["name"] == "difference" else []

    ranked = [candidate.label for candidate in explanation.ranking[1:]]
    if ranked and ranked_noun(explanation) == "image":
        return _Compared(names=ranked, cosines=[candidate.similarity for candidate in explanation.ranking[1:]])
    if ranked and explanation.ranking[0].label == explanation.caption and ranked[0] in target["options"]["against"]:
        return _Compared(names=ranked, captions=ranked)
    if images and not captions:
        return _Compared(names=images, cosines=[explanation.similarity - target["value"]])
    return _Compared(names=captions, captions=captions)
