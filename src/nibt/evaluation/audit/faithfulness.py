"""Questions 5 and 6: whether methods are faithful, and how much of the score is on special tokens and in corners."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nibt.data.pair import Pair
from nibt.engine.batch_cache import BatchCache
from nibt.evaluation.audit.thresholds import BOUNDS, checks_of, known_count
from nibt.evaluation.measure import measure
from nibt.evaluation.statistics import interval
from nibt.methods.base import SIDES, MethodSpec
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.audit import Check, MetricMean
from nibt.types import MeasuredSide, Modality

_PERTURBATION_METRICS = ("deletion", "insertion", "confidence_drop", "confidence_increase")
_GROUND_TRUTH_METRICS = ("pointing_game", "average_precision", "word_auc")
_CURVE_METRICS = ("deletion", "insertion")
_SHARE_METRICS = ("special_token_share", "corner_share")
# docs/reference/audit.md explains why confidence is not checked
_CHECKED_METRICS = ("deletion", "insertion", *_GROUND_TRUTH_METRICS)
_CONTROL_SEED_OFFSET = 104729  # so that a random control differs from an audited random map
Values = dict[tuple[MeasuredSide, str], np.ndarray]
"""The values of all pairs, by side and metric."""


class MetricScores:
    """The value of each metric for each method, side and pair."""

    def __init__(
        self,
        model: Model,
        pairs: Sequence[Pair],
        seed: int,
        batch_size: int,
        levels: int,
        cache: BatchCache | None = None,
    ) -> None:
        self.model, self.pairs, self.seed, self.batch_size, self.cache = model, list(pairs), seed, batch_size, cache
        has_objects = any(object_.spans for pair in pairs for object_ in pair.objects)
        names = (*_PERTURBATION_METRICS, *(_GROUND_TRUTH_METRICS if has_objects else ()), *_SHARE_METRICS)
        self.metrics = [find("metrics", name)(**{"levels": levels} if name in _CURVE_METRICS else {}) for name in names]
        self.by_method: dict[str, Values] = {}

    def add(self, method: MethodSpec, control: bool = False) -> None:
        """Measure a method or a control. Controls use another seed than audited methods."""
        label = f"{method} (control)" if control else str(method)
        self.by_method[label] = self._values(method, self.seed + _CONTROL_SEED_OFFSET if control else self.seed)

    def _values(self, method: MethodSpec, seed: int) -> Values:
        measurements = measure(
            self.model,
            self.pairs,
            self.metrics,
            method.name,
            variant=method.variant,
            seed=seed,
            batch_size=self.batch_size,
            cache=self.cache,
        )
        values: Values = {}
        for record in measurements:
            numbers = values.setdefault((record.side, record.metric), np.full(len(self.pairs), np.nan))
            numbers[record.item] = record.value
        return values

    def scores(self) -> Iterator[MetricMean]:
        """Yield the mean of each method, side and metric that was measured."""
        for method, values in self.by_method.items():
            for (side, metric), numbers in values.items():
                mean = interval(numbers)
                if mean.is_known:
                    better = find("metrics", metric).better
                    yield MetricMean(method, side, metric, *mean, known_count(numbers), better)

    def faithfulness(self, method: MethodSpec) -> Iterator[Check]:
        """Yield the check of each side and metric: the mean difference from a random map; positive is better."""
        measured, random = self.by_method[str(method)], self.by_method["random (control)"]
        for side in SIDES:
            for metric in _CHECKED_METRICS:
                if (side, metric) not in measured:
                    continue
                sign = 1 if find("metrics", metric).better == "higher" else -1
                differences = sign * (measured[side, metric] - random[side, metric])
                about = f"{metric.replace('_', ' ')}: {BOUNDS['faithful'].about}"
                yield from checks_of("faithful", str(method), side, differences, metric, about)

    def artifacts(self, method: MethodSpec, unit_counts: Sequence[int]) -> Iterator[Check]:
        measured = self.by_method[str(method)]
        shares: list[tuple[str, Modality, Any]] = [
            ("special", side, measured[side, "special_token_share"]) for side in SIDES
        ]
        shares.append(("corners", "image", measured["image", "corner_share"] * np.asarray(unit_counts) / 4))
        for name, side, values in shares:
            yield from checks_of(name, str(method), side, values)
