"""Measurement of maps by metrics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.ground_truth import GroundTruth, ground_truth
from nibt.data.pair import Pair, require_image_text
from nibt.engine.batch_cache import BatchCache
from nibt.engine.batches import ExplainedBatch, explain_batches
from nibt.engine.encode import encode
from nibt.engine.spec import ExplanationSpec, baseline_by_side, resolve
from nibt.engine.targets import Contrast, check_target, model_score
from nibt.errors import BadInput, BadOption
from nibt.evaluation.context import CallContext, image_key, map_of_other_caption
from nibt.methods.base import Method, MethodSpec
from nibt.metrics.base import Metric, MetricInput
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.options import BatchSize, parsed
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import available, find
from nibt.results.attribution import Attribution
from nibt.results.measurement import Measurement
from nibt.targets.base import Target
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, Modality, PerExample


@plain_torch()
def measure(
    model: Model | str | Path | nn.Module,
    pairs: Sequence[Pair],
    metrics: Sequence[str | Metric] | Mapping[str, str | Metric] | None = None,
    method: str | MethodSpec | Method = "nib",
    target: str = "cosine",
    *,
    measured: str = "explained",
    only: Modality | None = None,
    variant: str = "default",
    against: str | Sequence[str] = (),
    templates: Sequence[str] = (),
    batch_size: int = 16,
    seed: int | None = None,
    cache: BatchCache | None = None,
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> list[Measurement]:
    """Explain pairs with a method, and measure the maps with metrics.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and a caption. Metrics that compare a map with the ground truth need ``Pair.objects``,
            and are NaN for pairs without objects.
        metrics: Names of metrics, or metrics with their options, or a mapping of labels to either. None means all
            metrics. Each metric is computed on the sides for which it is defined.
        method: The name of the method, its text with a variant and options (``"nib:paper steps=5"``), or a
            ``Method``.
        target: The name of the target, the score that is explained.
        measured: The score that confidence, deletion, insertion and infidelity evaluate: "explained" (the target), or
            the name of another target. If that target compares, it uses the captions in ``against`` or, without them,
            all other captions of the call; on the text side, it uses all other images of the call.
        only: The only side to measure; None means both sides.
        variant: A variant of the method.
        against: Captions that a target compares with.
        templates: Templates of captions with ``{}``, for the target ``ensemble``.
        batch_size: The largest number of pairs that go through the model together.
        seed: A seed for methods that draw at random.
        cache: What calls with the same model and pairs share, whatever their methods; None shares nothing. It keeps
            the traces of all pairs until it is dropped.
        on_progress: Called after each batch with the number of pairs that are done.
        **options: Options of the method.

    Returns:
        One measurement per pair, side and metric, in this order.

    Raises:
        BadInput: There are no pairs, a pair is not an image with a caption, or a target has nothing to compare with.
        BadOption: The measured target cannot be measured, it compares with exactly one other and there are several, or
            the cache belongs to another model.
        UnknownName: No metric, method, target, variant or option has that name.

    """
    if not pairs:
        raise BadInput("there is nothing to measure (got no pairs): give at least one pair")
    batch_size = parsed("batch_size", batch_size, BatchSize)
    model = load_model(model)
    if cache is not None and cache.model is not model:
        raise BadOption(f"cache belongs to another object of a model than {model.id}: make a BatchCache of this model")
    pairs = [require_image_text(pair, "measure") for pair in pairs]
    labeled = _labeled(available("metrics") if metrics is None else metrics)
    score_target = None if measured == "explained" else _score_target(measured)
    # the captions are for the measured target only, and the explained target would reject them
    only_measured = score_target and score_target.others != "none" and find("targets", target).others == "none"
    options = baseline_by_side(options, ("image", "text") if only is None else (only,))
    contrast = Contrast.of(() if only_measured else against, (), templates)
    spec = resolve(model, MethodSpec.of(method, variant, options), target, contrast, seed=seed)
    scores = score_target and _MeasuredScore.of(model, score_target, pairs, Contrast.of(against, (), ()).against, only)
    sides: list[Modality] = [
        side
        for side in spec.modalities
        if only in (None, side) and any(side in metric.sides for metric in labeled.values())
    ]
    measurements: list[Measurement] = []
    context, done = CallContext(model, pairs), 0
    for batch in explain_batches(spec, pairs, batch_size, sides, cache):
        measurements += _measure_batch(spec, batch, labeled, scores, context, only, cache)
        done += len(batch.indices)
        on_progress(Progress(done, len(pairs)))
    return sorted(measurements, key=lambda measurement: measurement.item)


def _labeled(metrics: Sequence[str | Metric] | Mapping[str, str | Metric]) -> dict[str, Metric]:
    """Return the metrics by their labels. Repeated names are numbered."""
    if isinstance(metrics, Mapping):
        return {label: _metric(metric) for label, metric in metrics.items()}
    labeled: dict[str, Metric] = {}
    for metric in map(_metric, metrics):
        count = sum(other.name == metric.name for other in labeled.values())
        labeled[f"{metric.name} {count + 1}" if count else metric.name] = metric
    return labeled


def _metric(metric: str | Metric) -> Metric:
    return find("metrics", metric)() if isinstance(metric, str) else metric


def _score_target(name: str) -> Target:
    """Return the target of a name, which must not reword captions."""
    target: Target = find("targets", name)()
    if type(target).wordings is not Target.wordings:
        raise BadOption(
            f"measured must be explained, cosine, logit, softmax, difference or centred (got {target.name}, which "
            "rewords captions)"
        )
    return target


@dataclass(frozen=True)
class _MeasuredScore:
    """The score that metrics evaluate, if it is not the explained target.

    Attributes:
        model: The model.
        target: The measured target.
        others: By side, the embeddings of the other modality to compare with, and a key for each.
        own: By side, the key of each pair's own embedding, with which it is not compared.

    """

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
        only: Modality | None,
    ) -> "_MeasuredScore":
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
                    "captions in against, more pairs, or only='image'"
                )
            if target.others == "one" and max(counts) > 1:
                raise BadOption(
                    f"{target.name} compares with one other, and the {side} side has {max(counts)} {kind}: give one in "
                    "against with only='image', or measure softmax"
                )
        return cls(model, target, others, own)

    def score(
        self, side: Modality, indices: Sequence[int], other_embeddings: Embedding
    ) -> Callable[[Embedding], PerExample]:
        """Return the score of a batch as a function of the embeddings of a side."""
        scores = [
            replace(model_score(self.model, self.target, side, self._others(side, index)), other=other)
            for index, other in zip(indices, other_embeddings, strict=True)
        ]
        items = -1 - self.model.similarity.item_ndim

        def score(embeddings: Embedding) -> PerExample:
            rows = enumerate(scores)
            return torch.stack([of_pair(embeddings.select(items, row)) for row, of_pair in rows], -1)

        return score

    def _others(self, side: Modality, index: int) -> Tensor | None:
        """Return the embeddings that a pair is compared with."""
        if side not in self.others:
            return None
        keys, embeddings = self.others[side]
        return embeddings[[position for position, key in enumerate(keys) if key != self.own[side][index]]]


def _measure_batch(
    spec: ExplanationSpec,
    batch: ExplainedBatch,
    metrics: Mapping[str, Metric],
    measured: _MeasuredScore | None,
    context: CallContext,
    only: Modality | None,
    cache: BatchCache | None,
) -> Iterator[Measurement]:
    """Yield the measurements of a batch, in the order of sides, metrics and pairs."""
    pairs = [pair for pair in batch.pairs if isinstance(pair, Pair)]
    truths = cache.once(pairs, "truths", partial(_truths, batch)) if cache else _truths(batch)
    encoding_seconds = batch.encoding_seconds / (2 if only is None else 1)
    for position, modality in enumerate(spec.modalities):
        attribution, side = batch.attributions[position], batch.sides[position]
        if attribution is None:
            continue
        measured_side, other_embeddings = side, batch.sides[1 - position].trace.embedding
        if measured is not None:
            measured_side = replace(side, score=measured.score(modality, batch.indices, other_embeddings))
        metric_input = MetricInput(
            measured_side,
            attribution,
            truths,
            partial(_explain_again, spec.methods[modality], side),
            partial(map_of_other_caption, spec, batch),
            partial(context.candidates, modality, batch.indices, other_embeddings),
            cache and partial(_shared, cache, pairs, modality),
        )
        seconds = (batch.seconds[position] + encoding_seconds) / len(pairs)
        for label, metric in metrics.items():
            if modality not in metric.sides:
                continue
            values, curves = metric.measured(metric_input)
            curve_of_pair = [()] * len(pairs) if curves is None else map(tuple, curves.tolist())
            for index, value, curve in zip(batch.indices, values.tolist(), curve_of_pair, strict=True):
                yield Measurement(index, modality, metric.name, value, curve, label, seconds)


def _truths(batch: ExplainedBatch) -> tuple[GroundTruth, ...]:
    """Return the ground truth of each pair of a batch."""
    regions, words = batch.sides[0].inputs.regions, batch.sides[1].inputs.words
    assert words is not None
    rows = enumerate(batch.pairs)
    return tuple(ground_truth(pair, regions[row], words[row]) for row, pair in rows if isinstance(pair, Pair))


def _shared(cache: BatchCache, pairs: Sequence[Pair], side: Modality, key: Any, compute: Callable[[], Any]) -> Any:
    """Return a value of a side that all methods share."""
    return cache.once(pairs, (side, key), compute)


def _explain_again(method: Method, explained: Side, side: Side) -> Attribution:
    """Return the attribution of a changed side, for the score that was explained."""
    return method(replace(side, score=explained.score))
