"""Measurement of maps and of regions by metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias, cast, get_args

from torch import Tensor

from nibt.core.side import Side
from nibt.data.ground_truth import GroundTruth, ground_truth
from nibt.data.pair import GivenPair, Pair, image_text_pairs
from nibt.datasets.base import Dataset
from nibt.engine.batches import BatchCache, ExplainedBatch, ModelCache, explain_batches
from nibt.engine.encode import encode
from nibt.engine.regions import resolve_regions
from nibt.engine.spec import ExplanationSpec, Request, baseline_by_side, resolve
from nibt.engine.targets import Contrast, check_target_name
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.evaluation.bench.choice import default_label
from nibt.evaluation.context import CallContext, MeasuredScore, map_of_other_caption, regions_inputs, score_target
from nibt.methods.base import SIDES, Method
from nibt.metrics._labels import LabelMetric
from nibt.metrics.base import Metric, MetricInput, RegionsInput
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.options import BatchSize, changed_options, parsed
from nibt.progress import OnProgress, Progress, reporter
from nibt.registry import MethodSpec, available, find
from nibt.results.attribution import Attribution
from nibt.results.records import Measurement
from nibt.targets.base import Others, Score, Target
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, MeasuredSide, Modality

_ROUNDING = 1e-5
"""How far values in single precision may exceed the bounds of a metric."""
_Metric: TypeAlias = str | Metric[Any]
_Metrics: TypeAlias = _Metric | Sequence[_Metric] | Mapping[str, _Metric]


@plain_torch()
def measure(
    model: ModelSource,
    pairs: Sequence[GivenPair] | Dataset,
    metrics: _Metrics | None = None,
    method: str | MethodSpec | Method = "nib",
    target: str | None = None,
    *,
    measured: str = "explained",
    side: str | None = None,
    variant: str | None = None,
    against: str | Sequence[str] = (),
    templates: Sequence[str] = (),
    batch_size: int = 16,
    seed: int | None = None,
    cache: BatchCache | None = None,
    on_progress: OnProgress | None = None,
    **options: object,
) -> list[Measurement]:
    """Explain pairs with a method, and measure the maps and the regions of words with metrics.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and a caption, or tuples of an image, a caption and perhaps a mask. Metrics that need
            the ground truth take it from ``Pair.objects`` or the mask, and are NaN without both. If the model sees
            no pixel of the objects, they are NaN, too, except ``mean_iou`` and ``pixel_accuracy``, which then count the
            pixels of the background.
        metrics: Names of metrics, or metrics with their options, or a mapping of labels to either. Each metric is
            computed on the sides for which it is defined. None means all metrics of ``side``, or of images and
            captions; the metrics of ``regions`` are computed if they are named, or with ``side="regions"``, and
            ``label_iou`` and ``label_precision``, which need a map per label, only if they are named.
        method: The name of the method, its text with a variant and options (``"nib:paper steps=5"``), or a
            ``Method``.
        target: The name of the target, as in ``explain``; with ``measured``, None means ``cosine``.
        measured: The score of changed inputs that metrics such as deletion, confidence and ROAD evaluate: "explained"
            (the target), or the name of another target. If that target compares, it uses the captions in ``against``
            or, without them, all other captions of the call; on the text side, it uses all other images of the call.
        side: The only side to measure: "image", "text" or "regions"; None means all sides of the metrics. Regions are
            explained by ``nibt.regions``, for the target ``cosine``.
        variant: A variant of the method; None means that of its text, or ``default``.
        against: Captions that a target compares with.
        templates: Templates of captions with ``{}``, for the target ``ensemble``.
        batch_size: The largest number of pairs that go through the model together.
        seed: A seed for methods that draw at random.
        cache: What calls with the same model and pairs share, whatever their methods; None shares nothing. It keeps
            the traces of all pairs until it is dropped, and is valid while the weights of the model do not change.
        on_progress: Called after each batch with the number of pairs that are done; pairs with maps and regions count
            twice.
        **options: Options of the method.

    Returns:
        One measurement per pair, side and metric, in this order.

    Raises:
        BadInput: There are no pairs, a pair is not an image with a caption, or a target has nothing to compare with.
        BadOption: The measured target cannot be measured, it compares with exactly one other and there are several,
            regions are measured for another target than ``cosine``, or the cache belongs to another model.
        UnknownName: No metric, method, target, variant or option has that name.
    """
    report = reporter(on_progress)
    pairs = image_text_pairs(pairs, "measure")
    if not pairs:
        raise BadInput("there is nothing to measure (got no pairs): give at least one pair")

    check_target_name(target)
    if not isinstance(measured, str):
        raise UnknownName("targets", measured, available("targets"))

    only = _side(side)
    batch_size = parsed("batch_size", batch_size, BatchSize)

    model = load_model(model)
    _check_cache(cache, model)
    labeled = _labeled(metrics_of(SIDES if only is None else (only,)) if metrics is None else metrics)
    sides = _measured_sides(labeled, only)

    targets = _Targets.of(target, measured, Contrast.of(against, (), templates))
    if "regions" in sides:
        targets.check_regions()
    _check_labels(pairs, labeled)
    scores = targets.measured_score(model, pairs, only)

    method_spec = MethodSpec.of(method, variant, options, seed)
    explained_sides = SIDES if only is None or only == "regions" else (only,)
    method_spec = replace(method_spec, options=baseline_by_side(method_spec.options, explained_sides))

    map_sides: list[Modality] = [modality for modality in SIDES if modality in sides]
    context = CallContext(model, pairs)
    measurements: list[Measurement] = []
    done = 0
    total = len(pairs) * (bool(map_sides) + ("regions" in sides))

    if map_sides:
        spec = resolve(model, Request(method_spec, targets.explained, targets.contrast, seed=seed))
        of_model = cache.of_model if cache else ModelCache()
        for batch in explain_batches(spec, pairs, batch_size, map_sides, cache):
            measurements += _measure_batch(spec, batch, labeled, scores, context, only, cache, of_model)
            done += len(batch.indices)
            report(Progress(done, total))

    if "regions" in sides:
        inputs = regions_inputs(resolve_regions(model, method_spec, seed), pairs, cache)
        for item, (regions_input, seconds) in enumerate(inputs):
            measurements += _measurements(labeled, "regions", regions_input, [item], seconds)
            done += 1
            report(Progress(done, total))

    return sorted(measurements, key=lambda measurement: measurement.item)


@dataclass(frozen=True)
class _Targets:
    """The target that is explained, and the one that metrics evaluate.

    Attributes:
        explained: The name of the explained target; None means the default of ``contrast``.
        measured: The measured target; None for the explained one.
        contrast: What the explained target compares with.
        captions: The captions that the measured target compares with.
    """

    explained: str | None
    measured: Target | None
    contrast: Contrast
    captions: tuple[str, ...]

    @classmethod
    def of(cls, target: str | None, measured: str, contrast: Contrast) -> "_Targets":
        """Return the two targets of a call to ``measure``, whose captions may be for one of them only."""
        compares = bool(contrast.against or contrast.templates)
        if target is None and (measured != "explained" or not compares):
            target = "cosine"
        if measured == "explained":
            return cls(target, None, contrast, contrast.against)

        measured_target = score_target(measured)
        captions = contrast.against
        explained_compares = target is not None and find("targets", target).others != "none"
        if measured_target.others != "none" and not explained_compares:
            contrast = replace(contrast, against=())  # which the explained target would reject
        return cls(target, measured_target, contrast, captions)

    def check_regions(self) -> None:
        """Check that the target is one of regions."""
        measured = "explained" if self.measured is None else self.measured.name
        if self.explained != "cosine" or measured not in ("explained", "cosine"):
            raise BadOption(
                f"metrics of regions need the target cosine (got {self.explained or 'difference'}, of which "
                f"{measured} is measured): measure them in another call"
            )

    def measured_score(self, model: Model, pairs: Sequence[Pair], only: MeasuredSide | None) -> MeasuredScore | None:
        """Return the score that metrics evaluate in place of the explained one; None for that itself."""
        if self.measured is None:
            return None
        return MeasuredScore.of(model, self.measured, pairs, self.captions, only)


def _side(side: str | None) -> MeasuredSide | None:
    """Check the name of the only side to measure."""
    if not isinstance(side, str | None) or side not in (None, *get_args(MeasuredSide)):
        raise BadOption(f"side must be image, text or regions (got {side!r})")
    return cast(MeasuredSide | None, side)


def _check_cache(cache: BatchCache | None, model: Model) -> None:
    """Check that a cache belongs to a model."""
    if not isinstance(cache, BatchCache | None):
        raise BadOption(f"cache must be a BatchCache (got {type(cache).__name__}): leave it out, or make one")
    if cache is not None and getattr(cache, "model", None) is not model:
        raise BadOption(f"cache belongs to another object of a model than {model.id}: make a BatchCache of this model")


def _measured_sides(metrics: Mapping[str, Metric[Any]], only: MeasuredSide | None) -> list[MeasuredSide]:
    """Return the sides that at least one metric measures."""
    if not metrics:
        raise BadOption("metrics must name at least one metric (got none): leave metrics out to measure all")

    measurable = {name for metric in metrics.values() for name in metric.sides}
    sides = [side for side in get_args(MeasuredSide) if only in (None, side) and side in measurable]
    if not sides:
        raise BadOption(f"{', '.join(metrics)} cannot be measured on the side {only}: choose another side or metric")
    return sides


def _check_labels(pairs: Sequence[Pair], metrics: Mapping[str, Metric[Any]]) -> None:
    """Check that pairs have the same labels, where metrics compare the maps of all labels."""
    label_sets = {pair.labels for pair in pairs if pair.labels}
    if len(label_sets) > 1 and any(isinstance(metric, LabelMetric) for metric in metrics.values()):
        raise BadInput(f"pairs that are measured together must have the same labels (got {len(label_sets)} sets)")


def metrics_of(sides: Sequence[MeasuredSide]) -> list[str]:
    """Return the names of all metrics that measure at least one of the sides, but for those that must be named."""
    metrics = [find("metrics", name) for name in available("metrics")]
    return [metric.name for metric in metrics if not metric.only_by_name and set(sides).intersection(metric.sides)]


def _labeled(metrics: _Metrics) -> dict[str, Metric[Any]]:
    """Return the metrics by their labels: their names and the options that differ from the defaults."""
    if isinstance(metrics, Mapping):
        for label in metrics:
            if not isinstance(label, str) or not label.strip():
                raise BadOption(f"the label of a metric must be a text that is not empty (got {label!r:.60})")
        return {label: _metric(metric) for label, metric in metrics.items()}

    listed = [metrics] if isinstance(metrics, str) or not isinstance(metrics, Sequence) else metrics
    labeled = {}
    for metric in map(_metric, listed):
        labeled[default_label(metric.name, **changed_options(metric))] = metric
    return labeled


def _metric(metric: _Metric) -> Metric[Any]:
    if isinstance(metric, str):
        return find("metrics", metric)()
    if not isinstance(metric, Metric):
        raise BadOption(f"a metric must be its name, or a Metric with its options (got {metric!r:.100})")
    return metric


def _measure_batch(
    spec: ExplanationSpec,
    batch: ExplainedBatch,
    metrics: Mapping[str, Metric[Any]],
    measured: MeasuredScore | None,
    context: CallContext,
    only: MeasuredSide | None,
    cache: BatchCache | None,
    of_model: ModelCache,
) -> Iterator[Measurement]:
    """Yield the measurements of a batch, in the order of sides, metrics and pairs."""
    pairs = [pair for pair in batch.pairs if isinstance(pair, Pair)]
    truths = cache.once(pairs, "truths", partial(_truths, batch)) if cache else _truths(batch)
    encoding_seconds = batch.encoding_seconds / (2 if only is None else 1)
    for position, modality in enumerate(spec.modalities):
        attribution = batch.attributions[position]
        if attribution is None:
            continue

        side = batch.sides[position]
        other_embeddings = batch.sides[1 - position].trace.embedding
        measured_side = side
        if measured is not None:
            measured_side = replace(side, score=measured.score(modality, batch.indices, other_embeddings))
        metric_input = MetricInput(
            measured_side,
            attribution,
            truths,
            lambda changed, method=spec.methods[modality], score=side.score: method(replace(changed, score=score)),
            partial(map_of_other_caption, spec, batch),
            partial(context.candidates, modality, batch.indices, other_embeddings),
            tuple(pair.image for pair in pairs),
            partial(_explain_for_embeddings, spec.methods[modality], side),
            lambda side, items: encode(spec.model.tower(side), items),
            shared=cache and (lambda key, compute, side=modality: cache.once(pairs, (side, key), compute)),
            of_model=of_model.once,
        )
        seconds = (batch.seconds[position] + encoding_seconds) / len(pairs)
        yield from _measurements(metrics, modality, metric_input, batch.indices, seconds)


def _measurements(
    metrics: Mapping[str, Metric[Any]],
    side: MeasuredSide,
    metric_input: MetricInput | RegionsInput,
    indices: Sequence[int],
    seconds: float,
) -> Iterator[Measurement]:
    """Yield the measurements of the metrics of a side, in the order of metrics and pairs."""
    for label, metric in metrics.items():
        if side not in metric.sides:
            continue

        values, curves = metric.measured(metric_input)
        numbers = _numbers(metric, values, len(indices))
        curve_of_pair = [()] * len(indices) if curves is None else map(tuple, curves.tolist())
        for index, value, curve in zip(indices, numbers, curve_of_pair, strict=True):
            yield Measurement(index, side, metric.name, value, curve, label, seconds)


def _numbers(metric: Metric[Any], values: object, count: int) -> list[float]:
    """Return the numbers of a metric, and check that there is one per example, within the bounds of the metric."""
    if not isinstance(values, Tensor) or values.shape != (count,) or values.is_complex():
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise BadOption(
            f"the metric {metric.name} must return a tensor with a number per example, of the shape ({count},) (got "
            f"{got}): correct its class"
        )

    numbers = values.double()
    least, most = metric.bounds
    is_outside = (numbers < least - _ROUNDING) | (numbers > most + _ROUNDING) | numbers.isinf()
    if is_outside.any():
        raise BadOption(
            f"the metric {metric.name} must return NaN, or finite numbers from {least:g} to {most:g}, its bounds (got "
            f"{numbers[is_outside][0]:g}): correct its class"
        )
    return numbers.tolist()


def _truths(batch: ExplainedBatch) -> tuple[GroundTruth, ...]:
    """Return the ground truth of each pair of a batch."""
    regions = batch.sides[0].inputs.regions
    words = batch.sides[1].inputs.words
    assert words is not None
    rows = enumerate(batch.pairs)
    return tuple(ground_truth(pair, regions[row], words[row]) for row, pair in rows if isinstance(pair, Pair))


def _explain_for_embeddings(method: Method, side: Side, partner: Embedding, others: Others | None) -> Attribution:
    """Return the attribution of a side for other embeddings of the other side, with others by ``softmax``."""
    score = side.score
    assert isinstance(score, Score)
    among = {} if others is None else {"target": find("targets", "softmax")(), "others": others}
    return method(replace(side, score=replace(score, other=partner, own=None, **among)))
