"""Measurement of the chunks of a cell.

The rows of a chunk depend only on the cell and its pairs, so that a chunk has the same values whenever it is measured.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nibt.data.pair import Pair
from nibt.engine.batch_cache import BatchCache
from nibt.engine.spec import ExplanationSpec, resolve
from nibt.engine.targets import Contrast
from nibt.errors import NibtError
from nibt.evaluation.bench.plan import Cell, MetricChoice, Plan
from nibt.evaluation.bench.rows import Row
from nibt.evaluation.bench.validation import build_metric
from nibt.evaluation.measure import measure
from nibt.methods.base import Method
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.measurement import Measurement
from nibt.types import Modality

Items = Mapping[int, Pair | NibtError]
"""Pairs by their index in the data set, or the error of a pair that cannot be read."""
_Measurements = dict[tuple[Modality | Literal["table"], str], Measurement]
"""The measurements of a pair, by side and label of the metric."""


@dataclass(frozen=True)
class CellRunner:
    """A cell of a plan with its loaded model.

    Attributes:
        plan: The plan.
        cell: The cell: a model, a method, a target, a seed and a data set.
        model: The loaded model.

    """

    plan: Plan
    cell: Cell
    model: Model

    @property
    def sides(self) -> tuple[Modality, ...]:
        """The sides of the plan that the method can explain."""
        return tuple(side for side in self.plan.sides if side in find("methods", self.cell.method.name).sides)

    def methods(self) -> dict[Modality, Method]:
        """Return the configured method of each side."""
        spec = self._spec()
        return {side: spec.methods[side] for side in self.sides}

    def _spec(self) -> ExplanationSpec:
        contrast = Contrast.of(self._against("explained"), (), ())
        return resolve(self.model, self.cell.method.spec, self.cell.target, contrast, seed=self.cell.seed)

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Return the resolved options of the method and the target, for each side."""
        spec = self._spec()
        options = {side: spec.methods[side].options() for side in self.sides}
        return {side: {**options[side], "target": spec.scores[side].target.name} for side in self.sides}

    def rows(self, items: Items, cache: BatchCache | None = None) -> list[Row]:
        """Measure pairs, and return a row for each pair, side and metric.

        All pairs are measured in one call. If it fails, each pair is measured alone, and the error is recorded in the
        rows of its pair.
        """
        errors = {item: str(pair) for item, pair in items.items() if not isinstance(pair, Pair)}
        readable = {item: pair for item, pair in items.items() if isinstance(pair, Pair)}
        try:
            resolved: dict[str, dict[str, Any]] = self.resolved()
        except NibtError as error:
            resolved, readable, errors = {}, {}, {item: errors.get(item, str(error)) for item in items}
        measurements: dict[int, _Measurements] = {}
        try:
            measurements |= self._measured(readable, cache)
        except NibtError:
            for item, pair in readable.items():
                try:
                    measurements |= self._measured({item: pair}, None)
                except NibtError as error:
                    errors[item] = str(error)
        return list(self._rows(items, measurements, errors, resolved))

    def _measured(self, pairs: Mapping[int, Pair], cache: BatchCache | None) -> dict[int, _Measurements]:
        """Return the measurements of each pair, by side and label of the metric."""
        items = list(pairs)
        by_item: dict[int, _Measurements] = {item: {} for item in items}
        if not items or not self.sides:
            return by_item
        for measured in dict.fromkeys(choice.measured for choice in self.plan.metrics):
            metrics = {
                choice.label: build_metric(choice) for choice in self.plan.metrics if choice.measured == measured
            }
            measurements = measure(
                self.model,
                list(pairs.values()),
                metrics,
                self.cell.method.name,
                self.cell.target,
                measured=measured,
                only=self.sides[0] if len(self.sides) == 1 else None,
                variant=self.cell.method.variant,
                against=self._against(measured),
                batch_size=self.plan.batch_size,
                seed=self.cell.seed,
                cache=cache,
                **self.cell.method.options,
            )
            for measurement in measurements:
                by_item[items[measurement.item]][measurement.side, measurement.label] = measurement
        return by_item

    def _against(self, measured: str) -> tuple[str, ...]:
        """Return the plan's captions to compare with, if the explained target or the measured score uses them."""
        compares = any(
            find("targets", name).others != "none" for name in (self.cell.target, measured) if name != "explained"
        )
        return self.plan.against if compares else ()

    def _rows(
        self,
        items: Items,
        measurements: Mapping[int, _Measurements],
        errors: Mapping[int, str],
        resolved: Mapping[str, dict[str, Any]],
    ) -> Iterator[Row]:
        """Yield the rows of the store. The values of a pair without measurements are NaN."""
        cell, weights_hash = self.cell, self.model.weights_hash  # checks the weights, so it is read once
        measured: list[tuple[Modality, MetricChoice]] = [
            (side, metric)
            for side in self.sides
            for metric in self.plan.metrics
            if side in find("metrics", metric.name).sides
        ]
        for item in items:
            of_pair = measurements.get(item, {})
            for side, metric in measured:
                measurement = of_pair.get((side, metric.label)) or Measurement(item, side, metric.name, math.nan)
                yield Row(
                    model=cell.model.label,
                    weights_hash=weights_hash,
                    method=cell.method.name,
                    variant=cell.method.variant,
                    options=_as_json(cell.method.options),
                    resolved=_as_json(resolved.get(side, {})),
                    method_label=cell.method.label,
                    target=cell.target,
                    seed=cell.seed,
                    data=cell.data.label,
                    item=item,
                    side=side,
                    metric=metric.name,
                    metric_options=_as_json(metric.options),
                    measured=metric.measured,
                    metric_label=metric.label,
                    value=measurement.value,
                    curve=list(measurement.curve),
                    seconds=measurement.seconds,
                    error=errors.get(item, ""),
                )


def _as_json(options: Any) -> str:
    """Return options as a line of JSON with sorted keys."""
    return json.dumps(options, sort_keys=True, default=str)
