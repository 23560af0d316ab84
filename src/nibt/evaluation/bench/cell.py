"""One chunk of one cell: from pairs to rows.

It depends on nothing but the cell and its pairs, so that a chunk gives the same numbers whenever it is measured.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nibt.data.pair import Pair
from nibt.engine.spec import resolve
from nibt.engine.targets import Contrast
from nibt.errors import NibtError
from nibt.evaluation.bench.choices import as_text
from nibt.evaluation.bench.plan import Cell, Plan
from nibt.evaluation.bench.validation import build_metric
from nibt.evaluation.measure import measure
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.measurement import Measurement
from nibt.types import Modality

Items = Mapping[int, Pair | NibtError]
"""Pairs by their numbers, or why one cannot be read."""
_Values = dict[tuple[Modality, str], Measurement]
"""By side and label of the metric."""


@dataclass(frozen=True)
class Work:
    """What is asked in one cell of a plan, of a loaded model."""

    plan: Plan
    cell: Cell
    model: Model

    @property
    def sides(self) -> tuple[Modality, ...]:
        """The sides that the plan wants and the method has."""
        return tuple(side for side in self.plan.sides if side in find("methods", self.cell.method.name).sides)

    def check(self) -> NibtError | None:
        """What keeps this model from being explained like this, for all pairs; the caller tells what is to blame."""
        try:
            self.resolved()
        except NibtError as error:
            return error
        return None

    def resolved(self) -> dict[str, dict[str, Any]]:
        """The options of the method on each side, with all that was left open, and what it explains there."""
        contrast = Contrast.of(self._against("explained"), (), ())
        spec = resolve(self.model, self.cell.method.spec, self.cell.target, contrast, seed=self.cell.seed)
        return {side: {**spec.record["method"][side], "target": spec.targets[side].name} for side in self.sides}

    def rows(self, items: Items) -> list[dict[str, Any]]:
        """A row for each pair, side and metric; what was raised on purpose stands in its error.

        Pairs go through together; where that fails, each goes alone, so that one bad pair costs no other.
        """
        failed = {item: str(pair) for item, pair in items.items() if not isinstance(pair, Pair)}
        good = {item: pair for item, pair in items.items() if isinstance(pair, Pair)}
        try:
            resolved: dict[str, dict[str, Any]] = self.resolved()
        except NibtError as error:
            resolved, good, failed = {}, {}, {item: failed.get(item, str(error)) for item in items}
        found: dict[int, _Values] = {}
        try:
            found |= self._measured(good)
        except NibtError:
            for item, pair in good.items():
                try:
                    found |= self._measured({item: pair})
                except NibtError as error:
                    failed[item] = str(error)
        return list(self._addressed(items, found, failed, resolved))

    def _measured(self, pairs: Mapping[int, Pair]) -> dict[int, _Values]:
        """The measurements of each pair, by side and label of the metric."""
        numbers = list(pairs)
        found: dict[int, _Values] = {item: {} for item in numbers}
        if not numbers or not self.sides:
            return found
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
                **self.cell.method.options,
            )
            for measurement in measurements:
                found[numbers[measurement.item]][measurement.side, measurement.label] = measurement
        return found

    def _against(self, measured: str) -> tuple[str, ...]:
        """The plan's captions to compare with, where anything compares."""
        compares = any(
            find("targets", name).others != "none" for name in (self.cell.target, measured) if name != "explained"
        )
        return self.plan.against if compares else ()

    def _addressed(
        self,
        items: Items,
        found: dict[int, _Values],
        failed: dict[int, str],
        resolved: dict[str, dict[str, Any]],
    ) -> Iterator[dict[str, Any]]:
        cell = self.cell
        address = {
            "model": cell.model.label,
            "weights_hash": self.model.weights_hash,
            "method": cell.method.name,
            "variant": cell.method.variant,
            "options": as_text(cell.method.options),
            "method_label": cell.method.label,
            "target": cell.target,
            "seed": cell.seed,
            "data": cell.data.label,
        }
        for item in items:
            values = found.get(item, {})
            for side in self.sides:
                seconds = next((one.seconds for (of, _), one in values.items() if of == side), math.nan)
                for choice in self.plan.metrics:
                    if side in find("metrics", choice.name).sides:
                        row = values.get((side, choice.label)) or Measurement(item, side, choice.name, math.nan)
                        yield {
                            **address,
                            "resolved": as_text(resolved.get(side, {})),
                            "item": item,
                            "side": side,
                            "metric": choice.name,
                            "metric_options": as_text(choice.options),
                            "measured": choice.measured,
                            "metric_label": choice.label,
                            "value": row.value,
                            "curve": list(row.curve),
                            "seconds": seconds,
                            "error": failed.get(item, ""),
                        }
