"""One chunk of one cell: from pairs to rows. It depends on nothing but the cell and its pairs, so that a chunk gives
the same numbers whenever it is measured.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nibt.data.pair import Pair
from nibt.engine.spec import Contrast, resolve
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
_Values = dict[tuple[Modality, int], Measurement]


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
        method = self.cell.method
        question = resolve(
            self.model,
            method.name,
            self.cell.target,
            method.variant,
            Contrast.read(self._against("explained"), (), ()),
            None,
            self.cell.seed,
            dict(method.options),
        )
        targets = {side: type(question.targets[side]).__module__.rsplit(".", 1)[-1] for side in self.sides}
        return {side: {**question.record["method"][side], "target": targets[side]} for side in self.sides}

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
        found: dict[int, tuple[_Values, dict[Modality, float]]] = {}
        try:
            found |= self._measured(good)
        except NibtError:
            for item, pair in good.items():
                try:
                    found |= self._measured({item: pair})
                except NibtError as error:
                    failed[item] = str(error)
        return list(self._addressed(items, found, failed, resolved))

    def _measured(self, pairs: Mapping[int, Pair]) -> dict[int, tuple[_Values, dict[Modality, float]]]:
        """By item: the rows by side and the metric's place in the plan, and the seconds by side."""
        numbers = list(pairs)
        found: dict[int, tuple[_Values, dict[Modality, float]]] = {item: ({}, {}) for item in numbers}
        if not numbers or not self.sides:
            return found

        def on_explained(side: Modality, indices: Sequence[int], seconds: float) -> None:
            for index in indices:
                found[numbers[index]][1].setdefault(side, seconds / len(indices))

        metrics = [(place, choice, build_metric(choice)) for place, choice in enumerate(self.plan.metrics)]
        for measured in dict.fromkeys(choice.measured for choice in self.plan.metrics):
            asked = [(place, metric) for place, choice, metric in metrics if choice.measured == measured]
            own = {side: [place for place, metric in asked if side in metric.sides] for side in self.sides}
            rows = measure(
                self.model,
                list(pairs.values()),
                [metric for _, metric in asked],
                self.cell.method.name,
                self.cell.target,
                measured=measured,
                only=self.sides[0] if len(self.sides) == 1 else None,
                variant=self.cell.method.variant,
                against=self._against(measured),
                batch_size=self.plan.batch_size,
                seed=self.cell.seed,
                on_explained=on_explained,
                **self.cell.method.options,
            )
            # the rows of a pair and a side come in the order of the metrics that have a meaning there
            left = {(item, side): iter(own[side]) for item in range(len(numbers)) for side in self.sides}
            for row in rows:
                found[numbers[row.item]][0][row.side, next(left[row.item, row.side])] = row
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
        found: dict[int, tuple[_Values, dict[Modality, float]]],
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
            values, seconds = found.get(item, ({}, {}))
            for side in self.sides:
                for place, choice in enumerate(self.plan.metrics):
                    if side in find("metrics", choice.name).sides:
                        row = values.get((side, place)) or Measurement(item, side, choice.name, math.nan)
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
                            "seconds": seconds.get(side, math.nan),
                            "error": failed.get(item, ""),
                        }
