"""What a metric knows of a pair: its regions and nouns, other pairs of the call, another map, the score."""

import time
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch

from nibt.data.ground_truth import objects_of_words, seen_mask
from nibt.data.images import ImageInput, Region
from nibt.data.pair import Pair
from nibt.data.units import Words
from nibt.engine.batches import BatchCache, ExplainedBatch, explain_batches
from nibt.engine.encode import encode
from nibt.engine.regions import explain_pair
from nibt.engine.spec import ExplanationSpec
from nibt.engine.targets import check_target
from nibt.errors import BadInput, BadOption
from nibt.metrics.base import Candidates, Noun, PixelMask, RegionsInput
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.attribution import Attribution
from nibt.targets.base import Score, Target
from nibt.types import Embedding, MeasuredSide, Modality, PerExample

OTHER_CAPTIONS = (
    "a plate of food on a wooden table",
    "two people ride bicycles down the street",
    "a brown dog runs through green grass",
    "an airplane flies over snowy mountains",
    "several boats near an old harbor",
    "the woman plays her guitar",
    "red flowers inside a glass vase",
    "children build sand castles at the beach",
    "a black cat sleeps under some books",
    "heavy rain outside this window",
    "a train leaves its station",
    "horses drink from a quiet river",
)
_WITHOUT_MEANING = set(
    "a an the of on in at to and with her his its this some down through over near under from".split()
)


def other_caption(caption: str) -> str:
    """Return a caption of another subject by a checksum, without a common word if there is such a caption."""
    words = _words(caption)
    start = zlib.crc32(caption.encode())
    order = [OTHER_CAPTIONS[(start + step) % len(OTHER_CAPTIONS)] for step in range(len(OTHER_CAPTIONS))]
    return next((other for other in order if not words & _words(other)), order[0])


def _words(caption: str) -> set[str]:
    return {word.strip(".,;:!?\"'()").lower() for word in caption.split()} - _WITHOUT_MEANING


def map_of_other_caption(spec: ExplanationSpec, batch: ExplainedBatch) -> Attribution:
    """Explain the images of a batch with the same method for another caption each."""
    pairs = [
        replace(pair, caption=other_caption(pair.caption), objects=(), absent=())
        for pair in batch.pairs
        if isinstance(pair, Pair)
    ]
    position = spec.modalities.index("image")
    scores: dict[int, torch.Tensor] = {}
    units: Any = None
    for other in explain_batches(spec, pairs, len(pairs), ["image"]):
        attribution = other.attributions[position]
        assert attribution is not None
        scores |= dict(zip(other.indices, attribution.scores, strict=True))
        units = attribution.units

    stacked = torch.stack([scores[index] for index in range(len(pairs))])
    return Attribution(stacked, units, stacked.new_zeros(len(pairs)))


@dataclass(frozen=True)
class CallContext:
    """The pairs of a call to ``measure``."""

    model: Model
    pairs: Sequence[Pair]

    def candidates(self, side: Modality, indices: Sequence[int], other_embeddings: Embedding) -> Candidates:
        """Return the embeddings that the pairs of a batch compete with."""
        own, opposite = (self._images, self._captions) if side == "image" else (self._captions, self._images)
        similarity = self.model.similarity if side == "image" else self.model.similarity.swapped()
        return Candidates(
            similarity,
            other_embeddings,
            tuple(others_than(own, own[0][index]) for index in indices),
            tuple(others_than(opposite, opposite[0][index]) for index in indices),
        )

    @cached_property
    def _images(self) -> tuple[list[Any], Embedding]:
        """The key of the image of each pair, and the embeddings of the images."""
        images = [pair.image for pair in self.pairs]
        return [image_key(image) for image in images], encode(self.model.image, images)

    @cached_property
    def _captions(self) -> tuple[list[Any], Embedding]:
        """The caption of each pair, and the embeddings of the captions."""
        captions = [pair.caption for pair in self.pairs]
        return captions, encode(self.model.text, captions)


def others_than(keyed: tuple[list[Hashable], torch.Tensor], own: Hashable) -> torch.Tensor:
    """Return the embeddings of the inputs with other keys than that of a pair."""
    keys, embeddings = keyed
    return embeddings[[position for position, key in enumerate(keys) if key != own]]


def image_key(image: ImageInput) -> tuple[Any, ...]:
    """Return a key that is equal for images with the same pixels."""
    return image.pil_image.size, image.pil_image.mode, hash(image.pil_image.tobytes())


def regions_inputs(
    spec: ExplanationSpec, pairs: Sequence[Pair], cache: BatchCache | None
) -> Iterator[tuple[RegionsInput, float]]:
    """Yield the regions of each pair, and the seconds to compute them."""
    for pair in pairs:
        started = time.perf_counter()
        regions, image, text = explain_pair(spec, pair, ())
        seconds = time.perf_counter() - started
        nouns = nouns_of(pair, regions.region, regions.units)
        others = others_of(pair, regions.region)
        yield (
            RegionsInput(
                regions, image, text=text, nouns=nouns, others=others, shared=cache and partial(cache.once, [pair])
            ),
            seconds,
        )


def nouns_of(pair: Pair, region: Region, words: Words) -> tuple[Noun, ...]:
    """Return the nouns of a caption whose objects are visible."""
    named = objects_of_words(pair, region, words)
    return tuple(
        Noun(positions, mask, tuple(other for place, (_, other) in enumerate(named) if place != index))
        for index, (positions, mask) in enumerate(named)
    )


def others_of(pair: Pair, region: Region) -> tuple[PixelMask, ...]:
    """Return the masks of the visible objects that no words name."""
    masks = [seen_mask(pair, [obj], region) for obj in pair.objects if not obj.spans]
    return tuple(mask for mask in masks if mask.any())


def score_target(name: str) -> Target:
    """Return the target of a name, which must not reword captions."""
    target: Target = find("targets", name)()
    if type(target).wordings is not Target.wordings:
        raise BadOption(
            f"measured must be explained, cosine, logit, softmax, difference or centered (got {target.name}, which "
            "rewords captions)"
        )
    return target


def _check_counts(target: Target, side: Modality, counts: Sequence[int]) -> None:
    """Check that a target has as many captions or images to compare each pair with as it needs."""
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


@dataclass(frozen=True)
class MeasuredScore:
    """The measured target; by side, embeddings to compare with under keys, and the key of each pair itself."""

    model: Model
    target: Target
    others: dict[Modality, tuple[list[Hashable], Embedding]]
    own: dict[Modality, list[Hashable]]

    @classmethod
    def of(
        cls, model: Model, target: Target, pairs: Sequence[Pair], against: tuple[str, ...], only: MeasuredSide | None
    ) -> "MeasuredScore":
        """Encode all captions and images to compare with once for all batches."""
        check_target(model, target)
        if target.others == "none":
            return cls(model, target, {}, {})

        captions = [pair.caption for pair in pairs]
        images = [pair.image for pair in pairs]
        image_keys = [image_key(image) for image in images]
        others: dict[Modality, tuple[list[Any], Embedding]] = {}
        keys_of_captions: list[Any] = [model.text.tokens(caption).ids for caption in captions]
        if against and target.averages:  # the mean of a set may include the caption
            keys_of_captions = [None] * len(pairs)
        own: dict[Modality, list[Any]] = {"image": keys_of_captions, "text": image_keys}
        if only != "text":
            texts = list(against or dict.fromkeys(captions))
            others["image"] = [model.text.tokens(text).ids for text in texts], encode(model.text, texts)

        if only != "image":
            distinct = dict(zip(image_keys, images, strict=True))
            others["text"] = list(distinct), encode(model.image, list(distinct.values()))

        for side, (keys, _) in others.items():
            _check_counts(target, side, [len(keys) - (key in keys) for key in own[side]])
        return cls(model, target, others, own)

    def score(
        self, side: Modality, indices: Sequence[int], other_embeddings: Embedding
    ) -> Callable[[Embedding], PerExample]:
        """Return the score of a batch as a function of the embeddings of a side."""
        scores = []
        for index, other in zip(indices, other_embeddings, strict=True):
            others = others_than(self.others[side], self.own[side][index]) if side in self.others else None
            similarity = self.model.seen_from(side)
            scores.append(
                Score(self.target, similarity, scale=self.model.scale, bias=self.model.bias, others=others, other=other)
            )

        items = -1 - self.model.item_ndim

        def score(embeddings: Embedding) -> PerExample:
            rows = enumerate(scores)
            return torch.stack([of_pair(embeddings.select(items, row)) for row, of_pair in rows], -1)

        return score
