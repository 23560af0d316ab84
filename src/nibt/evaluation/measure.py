"""How good the maps of a method are, on pairs whose truth is known or by what the model itself does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.ground_truth import ground_truth
from nibt.data.images import ImageInput
from nibt.data.pair import Pair, require_image_text
from nibt.engine.batches import ExplainedBatch, explain_batches
from nibt.engine.encode import encode
from nibt.engine.spec import ExplanationSpec, baseline_by_side, resolve
from nibt.engine.targets import Contrast
from nibt.errors import BadInput, BadOption
from nibt.methods.base import Method, MethodSpec
from nibt.metrics.base import Metric, MetricInput
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import available, find
from nibt.results.attribution import Attribution
from nibt.results.measurement import Measurement
from nibt.targets.base import Target, TargetContext
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, Modality, PerExample


@plain_torch()
def measure(
    model: Model | str | Path | nn.Module,
    pairs: Sequence[Pair],
    metrics: Sequence[str | Metric] | Mapping[str, str | Metric] | None = None,
    method: str = "nib",
    target: str = "cosine",
    *,
    measured: str = "explained",
    only: Modality | None = None,
    variant: str = "default",
    against: str | Sequence[str] = (),
    templates: Sequence[str] = (),
    batch_size: int = 16,
    seed: int | None = None,
    on_progress: OnProgress = no_progress,
    **options: Any,
) -> list[Measurement]:
    """Explain pairs with a method, and measure the maps: one measurement per pair, side and metric.

    All parameters that are not listed are those of ``explain``.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and a caption. Metrics that compare a map with the truth need ``Pair.objects``; they
            are NaN for other pairs.
        metrics: Names of metrics, or metrics with their options; a mapping gives each a label. None means all. Each
            metric is taken on the sides for which it is defined.
        method: The name of the method.
        target: The target that is explained.
        measured: The score that confidence, deletion, insertion and infidelity look at: "explained", or a target. A
            target that compares does so with ``against`` or, without, with all other captions of the call; on the text
            side with all other images of the call.
        only: The only side to measure.
        variant: A variant of the method.
        against: Captions to compare with.
        templates: Templates of the target ``ensemble``.
        batch_size: The largest number of pairs that go through the model together.
        seed: A seed for methods that draw at random.
        on_progress: Called after each batch with the number of pairs that are done.
        **options: Options of the method.

    Returns:
        The measurements, by pair, then by batch order of sides and metrics.

    Raises:
        BadInput: There are no pairs, one is not of an image and a caption, or there is nothing to compare with.
        BadOption: The measured target cannot compare with what there is.
        UnknownName: No metric, method, target, variant or option has that name.

    """
    if not pairs:
        raise BadInput("there is nothing to measure: give at least one pair")
    model = load_model(model)
    pairs = [require_image_text(pair, "measure") for pair in pairs]
    labeled = _labeled(available("metrics") if metrics is None else metrics)
    other = None if measured == "explained" else _target(measured)
    own = () if other and other.others != "none" and find("targets", target).others == "none" else against
    options = baseline_by_side(options, ("image", "text") if only is None else (only,))
    contrast = Contrast.of(own, (), templates)
    spec = resolve(model, MethodSpec(method, variant, options), target, contrast, seed=seed)
    scores = other and _MeasuredScore.of(model, other, pairs, Contrast.of(against, (), ()).against, only)
    sides: list[Modality] = [
        side
        for side in spec.modalities
        if only in (None, side) and any(side in metric.sides for metric in labeled.values())
    ]
    measurements: list[Measurement] = []
    done = 0
    for batch in explain_batches(spec, pairs, batch_size, sides):
        measurements += _measure_batch(spec, batch, labeled, scores, only)
        done += len(batch.indices)
        on_progress(Progress(done, len(pairs)))
    return sorted(measurements, key=lambda measurement: measurement.item)


def _labeled(metrics: Sequence[str | Metric] | Mapping[str, str | Metric]) -> dict[str, Metric]:
    """The metrics by their labels."""
    if isinstance(metrics, Mapping):
        return {label: _metric(metric) for label, metric in metrics.items()}
    labeled: dict[str, Metric] = {}
    for metric in map(_metric, metrics):
        count = sum(other.name == metric.name for other in labeled.values())
        labeled[f"{metric.name} {count + 1}" if count else metric.name] = metric
    return labeled


def _metric(metric: str | Metric) -> Metric:
    return find("metrics", metric)() if isinstance(metric, str) else metric


def _target(name: str) -> Target:
    """A target that may be measured: any whose captions stand for themselves."""
    target: Target = find("targets", name)()
    if type(target).wordings is not Target.wordings:
        raise BadOption(
            f"the target {target.name} rewords captions, so it can be explained, not measured beside another: "
            "measured must be cosine, logit, softmax, difference or centred"
        )
    return target


@dataclass(frozen=True)
class _MeasuredScore:
    """A score beside the explained one, and what each pair of the call is compared with: embeddings of the other
    side's kind, each with a key, and the key of each pair's own, which is left out.
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
        """Everything to compare with is encoded here, once, so that it depends on the call alone."""
        if target.others == "none":
            return cls(model, target, {}, {})
        captions, images = [pair.caption for pair in pairs], [pair.image for pair in pairs]
        of_images = [_key(image) for image in images]
        others: dict[Modality, tuple[list[Any], Embedding]] = {}
        own: dict[Modality, list[Any]] = {"image": [None] * len(pairs) if against else captions, "text": of_images}
        if only != "text":
            texts = list(against or dict.fromkeys(captions))
            others["image"] = texts, encode(model.text, texts)
        if only != "image":
            once = dict(zip(of_images, images, strict=True))
            others["text"] = list(once), encode(model.image, list(once.values()))
        for side, (keys, _) in others.items():
            fewest = min(len(keys) - (key in keys) for key in own[side])
            most = max(len(keys) - (key in keys) for key in own[side])
            kind = "captions" if side == "image" else "images"
            if not fewest:
                raise BadInput(
                    f"{target.name} on the {side} side compares with other {kind}, and the call has none: give "
                    "captions in against, more pairs, or only='image'"
                )
            if target.others == "one" and most > 1:
                raise BadOption(
                    f"{target.name} compares with one other, and the {side} side has {most} {kind}: give one in "
                    "against with only='image', or measure softmax"
                )
        return cls(model, target, others, own)

    def score(self, side: Modality, indices: Sequence[int], there: Embedding) -> Callable[[Embedding], PerExample]:
        """The score of a batch, of these pairs: each is compared with others of its own."""
        settings = [TargetContext(self.model.scale, self.model.bias, self._others(side, index)) for index in indices]

        def score(here: Embedding) -> PerExample:
            found = [self.target(here[..., place, :], there[place], one) for place, one in enumerate(settings)]
            return torch.stack(found, -1)

        return score

    def _others(self, side: Modality, index: int) -> Tensor | None:
        if side not in self.others:
            return None
        keys, embeddings = self.others[side]
        return embeddings[[place for place, key in enumerate(keys) if key != self.own[side][index]]]


def _key(image: ImageInput) -> tuple[Any, ...]:
    """The same for images of the same pixels."""
    return image.pil_image.size, image.pil_image.mode, hash(image.pil_image.tobytes())


def _measure_batch(
    spec: ExplanationSpec,
    batch: ExplainedBatch,
    metrics: Mapping[str, Metric],
    measured: _MeasuredScore | None,
    only: Modality | None,
) -> Iterator[Measurement]:
    regions, words = batch.sides[0].inputs.regions, batch.sides[1].inputs.words
    assert words is not None
    pairs = [pair for pair in batch.pairs if isinstance(pair, Pair)]
    truths = tuple(ground_truth(pair, regions[row], words[row]) for row, pair in enumerate(pairs))
    encoding_seconds = batch.encoding_seconds / (2 if only is None else 1)
    for position, modality in enumerate(spec.modalities):
        attribution, side = batch.attributions[position], batch.sides[position]
        if attribution is None:
            continue
        seen = side
        if measured is not None:
            other = batch.sides[1 - position].trace.embedding
            seen = replace(side, score=measured.score(modality, batch.indices, other))
        metric_input = MetricInput(seen, attribution, truths, partial(_explain_again, spec.methods[modality], side))
        seconds = (batch.seconds[position] + encoding_seconds) / len(pairs)
        for label, metric in metrics.items():
            if modality not in metric.sides:
                continue
            values, curves = metric.measured(metric_input)
            curve_of = [()] * len(pairs) if curves is None else map(tuple, curves.tolist())
            for index, value, curve in zip(batch.indices, values.tolist(), curve_of, strict=True):
                yield Measurement(index, modality, metric.name, value, curve, label, seconds)


def _explain_again(method: Method, explained: Side, side: Side) -> Attribution:
    """The method's attribution of another side, for the score that was explained."""
    return method(replace(side, score=explained.score))
