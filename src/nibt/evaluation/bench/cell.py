"""Measurement of the chunks of a cell, and their rows, which are written into Parquet files.

The rows of a chunk depend only on the cell and its pairs, so that a chunk has the same values whenever it is measured.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from typing_extensions import TypedDict

from nibt.data import parquet
from nibt.data.pair import Pair
from nibt.engine.batches import BatchCache
from nibt.engine.regions import resolve_regions
from nibt.engine.spec import ExplanationSpec, Request, resolve
from nibt.engine.targets import Contrast
from nibt.errors import NibtError
from nibt.evaluation.bench.choice import MetricChoice
from nibt.evaluation.bench.plan import Cell, Plan
from nibt.evaluation.bench.validation import build_metric
from nibt.evaluation.measure import measure
from nibt.folder import open_table
from nibt.models.base import Model
from nibt.options import Keywords
from nibt.registry import find
from nibt.results.records import Measurement
from nibt.types import MeasuredSide


class Row(TypedDict):
    """A measured number, with everything that identifies it; names of entries of the plan are their labels."""

    model: str
    weights_hash: str
    method: str  # the name, as that of the metric
    variant: str
    options: str  # in the plan, as JSON
    resolved: str  # on this side with all defaults filled in, and the target, as JSON; by side for regions
    method_label: str
    target: str
    seed: int  # for methods that draw at random
    data: str
    item: int  # the index of the pair in the data set
    side: str  # that is explained, or regions
    metric: str
    metric_options: str  # in the plan, as JSON
    measured: str  # the score that the metric measures
    metric_label: str
    value: float  # NaN if it is not defined or failed
    curve: list[float]  # whose area the value is, or what the number of all pairs needs of this pair; else empty
    seconds: float  # to explain this side of the pair, or to compute its regions
    error: str  # empty if there is none


COLUMNS = tuple(Row.__annotations__)
TIMES = ("seconds",)
"""Columns that differ between two runs of the same plan."""
NEEDED_BY = "a benchmark needs"


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return the bytes of a Parquet file with these rows."""
    arrow = parquet.pyarrow(NEEDED_BY)[0]
    return parquet.encode(arrow.Table.from_pylist(rows, schema=_schema(arrow)))


def read_rows(paths: Iterable[Path]) -> Any:
    """Return the rows of several files as a ``pyarrow.Table``, in order."""
    arrow = parquet.pyarrow(NEEDED_BY)[0]
    tables = []
    for path in paths:
        with open_table(path) as table:
            tables.append(table.read())
    return arrow.concat_tables([_schema(arrow).empty_table(), *tables]).combine_chunks()


def fingerprint(table: Any) -> str:
    """Return a hash of all rows without their times, as 64 hexadecimal digits."""
    digest = sha256()
    for name in table.column_names:
        if name not in TIMES:
            digest.update(json.dumps([name, [_bits(value) for value in table[name].to_pylist()]]).encode())
    return digest.hexdigest()


def _bits(value: object) -> object:
    """Convert a value for JSON, with all bits of its numbers."""
    if isinstance(value, list):
        return [_bits(element) for element in value]
    return value.hex() if isinstance(value, float) else value


def _schema(arrow: ModuleType) -> Any:
    number = arrow.float64()
    types = {str: arrow.string(), int: arrow.int64(), float: number, list[float]: arrow.list_(number)}
    return arrow.schema([(name, types[annotation]) for name, annotation in get_type_hints(Row).items()])


Items = Mapping[int, Pair | NibtError]
"""Pairs by their index in the data set, or the error of a pair that cannot be read."""
_Measurements = dict[tuple[MeasuredSide, str], Measurement]
"""The measurements of a pair, by side and label of the metric."""


@dataclass(frozen=True)
class CellRunner:
    """A cell of a plan with its loaded model."""

    plan: Plan
    cell: Cell
    model: Model

    @property
    def sides(self) -> tuple[MeasuredSide, ...]:
        """The sides of the plan that the method can explain; regions need maps, the cosine, and no control."""
        method = self.cell.method.plugin
        supported: tuple[MeasuredSide, ...] = method.sides
        # regions of controls would be 0, whatever the words
        if "image" in supported and method.category != "control" and self.cell.target == "cosine":
            supported = (*supported, "regions")
        return tuple(side for side in self.plan.sides if side in supported)

    def spec(self, side: MeasuredSide = "image") -> ExplanationSpec:
        """Return the resolved request: that of regions, or that of the maps of both sides."""
        if side == "regions":
            return resolve_regions(self.model, self.cell.method.spec, self.cell.seed)
        contrast = Contrast.of(self._against("explained"), (), ())
        return resolve(self.model, Request(self.cell.method.spec, self.cell.target, contrast, seed=self.cell.seed))

    def rows(self, items: Items, cache: BatchCache | None = None) -> list[Row]:
        """Measure pairs, and return a row for each pair, side and metric, in this order."""
        maps: list[MeasuredSide] = [side for side in self.sides if side != "regions"]
        regions: list[MeasuredSide] = ["regions"] if "regions" in self.sides else []
        rows = [row for sides in (maps, regions) for row in self._rows_of(sides, items, cache)]
        return sorted(rows, key=lambda row: row["item"])

    def _rows_of(self, sides: Sequence[MeasuredSide], items: Items, cache: BatchCache | None) -> Iterator[Row]:
        """Yield the rows of sides that are measured together."""
        choices = [metric for metric in self.plan.metrics if set(sides) & set(metric.plugin.sides)]
        if not choices:
            return

        pairs = {item: pair for item, pair in items.items() if isinstance(pair, Pair)}
        errors = {item: str(pair) for item, pair in items.items() if not isinstance(pair, Pair)}
        resolved: dict[MeasuredSide, Keywords] = {}
        measurements: dict[int, _Measurements] = {}
        try:
            resolved = self._resolved(sides)
        except NibtError as error:
            errors |= {item: str(error) for item in pairs}
        else:
            measurements, failures = self._measured_or_failed(sides, choices, pairs, cache)
            errors |= failures

        measured: list[tuple[MeasuredSide, MetricChoice]] = [
            (side, metric) for side in sides for metric in choices if side in metric.plugin.sides
        ]
        for item in items:
            of_item = measurements.get(item, {})
            for side, metric in measured:
                missing = Measurement(item, side, metric.name, math.nan)
                measurement = of_item.get((side, metric.label), missing)
                yield self._row(measurement, metric, resolved.get(side, {}), errors.get(item, ""))

    def _resolved(self, sides: Sequence[MeasuredSide]) -> dict[MeasuredSide, Keywords]:
        """Return the options of the method for each side, for regions by side, and the target that is explained.

        A side without anything to compare with is explained with another target than that of the cell.
        """
        resolved: dict[MeasuredSide, Keywords] = {}
        for side in sides:
            spec = self.spec(side)
            options = {name: method.options() for name, method in spec.methods.items()}
            target = self.cell.target if side == "regions" else spec.scores[side].target.name
            resolved[side] = {**(options if side == "regions" else options[side]), "target": target}
        return resolved

    def _measured_or_failed(
        self,
        sides: Sequence[MeasuredSide],
        choices: Sequence[MetricChoice],
        pairs: Mapping[int, Pair],
        cache: BatchCache | None,
    ) -> tuple[dict[int, _Measurements], dict[int, str]]:
        """Return the measurements of pairs, and errors; if the call fails, each pair is measured alone."""
        try:
            return self._measured(sides, choices, pairs, cache), {}
        except NibtError:
            measurements: dict[int, _Measurements] = {}
            failures: dict[int, str] = {}
            for item, pair in pairs.items():
                try:
                    measurements |= self._measured(sides, choices, {item: pair}, None)
                except NibtError as error:
                    failures[item] = str(error)
            return measurements, failures

    def _measured(
        self,
        sides: Sequence[MeasuredSide],
        choices: Sequence[MetricChoice],
        pairs: Mapping[int, Pair],
        cache: BatchCache | None,
    ) -> dict[int, _Measurements]:
        if not pairs:
            return {}

        items = list(pairs)
        by_item: dict[int, _Measurements] = {item: {} for item in items}
        for measured in dict.fromkeys(choice.measured for choice in choices):
            metrics = {choice.label: build_metric(choice) for choice in choices if choice.measured == measured}
            measurements = measure(
                self.model,
                list(pairs.values()),
                metrics=metrics,
                method=self.cell.method.spec,
                target=self.cell.target,
                measured=measured,
                side=sides[0] if len(sides) == 1 else None,
                against=self._against(measured),
                batch_size=self.plan.batch_size,
                seed=self.cell.seed if self.cell.method.draws else None,
                cache=cache,
            )
            for measurement in measurements:
                item = items[measurement.item]
                by_item[item][measurement.side, measurement.label] = replace(measurement, item=item)

        return by_item

    def _against(self, measured: str) -> tuple[str, ...]:
        """Return the plan's captions to compare with, if the explained target or the measured score uses them."""
        compares = any(
            find("targets", name).others != "none" for name in (self.cell.target, measured) if name != "explained"
        )
        return self.plan.against if compares else ()

    def _row(self, measurement: Measurement, metric: MetricChoice, resolved: Keywords, error: str) -> Row:
        """Return the row of a measurement; the value of a pair that was not measured is NaN."""
        cell = self.cell
        return Row(
            model=cell.model.label,
            weights_hash=self._weights_hash,
            method=cell.method.name,
            variant=cell.method.variant,
            options=_as_json(cell.method.options),
            resolved=_as_json(resolved),
            method_label=cell.method.label,
            target=cell.target,
            seed=cell.seed,
            data=cell.data.label,
            item=measurement.item,
            side=measurement.side,
            metric=metric.name,
            metric_options=_as_json(metric.options),
            measured=metric.measured,
            metric_label=metric.label,
            value=measurement.value,
            curve=list(measurement.curve),
            seconds=measurement.seconds,
            error=error,
        )

    @cached_property
    def _weights_hash(self) -> str:
        """The hash of the weights, which are checked once for all rows."""
        return self.model.weights_hash


def _as_json(options: object) -> str:
    return json.dumps(options, sort_keys=True, default=str)
