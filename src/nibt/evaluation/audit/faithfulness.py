"""From the metrics: how faithful methods are here, beside the controls; what special tokens and corners take."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nibt.data.pair import Pair
from nibt.evaluation.audit.intervals import interval
from nibt.evaluation.audit.thresholds import BOUNDS
from nibt.evaluation.measure import measure
from nibt.methods.base import SIDES, MethodSpec
from nibt.models.base import Model
from nibt.registry import find
from nibt.results.audit import Check, Score
from nibt.types import Modality

_FAITHFUL = ("deletion", "insertion", "confidence_drop", "confidence_increase")
_TRUTH = ("pointing_game", "average_precision", "word_auc")
_CURVES = ("deletion", "insertion")
_OF_THE_MAP = ("special_share", "corner_share")
_JUDGED = ("deletion", "insertion", *_TRUTH)  # why confidence is told, not judged: docs/audit.md
_APART = 104729  # the control's seed is another than that of an audited random map
Values = dict[tuple[Modality, str], np.ndarray]


class Measured:
    """A number for each method, side, metric and pair."""

    def __init__(self, model: Model, pairs: Sequence[Pair], seed: int, batch_size: int, levels: int) -> None:
        self.seed, self._ask = seed, (model, list(pairs))
        self._batch_size = batch_size
        known = any(thing.spans for pair in pairs for thing in pair.objects)
        names = (*_FAITHFUL, *(_TRUTH if known else ()), *_OF_THE_MAP)
        self.metrics = [find("metrics", name)(**{"levels": levels} if name in _CURVES else {}) for name in names]
        self.found: dict[str, Values] = {}

    def add(self, asked: MethodSpec, control: bool = False) -> None:
        """Measure a method, or a control, which draws by another seed than an audited method does."""
        name = f"{asked} (control)" if control else str(asked)
        self.found[name] = self._values(asked, self.seed + _APART if control else self.seed)

    def _values(self, asked: MethodSpec, seed: int) -> Values:
        model, pairs = self._ask
        rows = measure(
            model, pairs, self.metrics, asked.name, variant=asked.variant, seed=seed, batch_size=self._batch_size
        )
        found: Values = {}
        for row in rows:
            found.setdefault((row.side, row.metric), np.full(len(pairs), np.nan))[row.item] = row.value
        return found

    def scores(self) -> Iterator[Score]:
        """The table."""
        for method, values in self.found.items():
            for (side, metric), numbers in values.items():
                mean = interval(numbers, self.seed)
                if mean:
                    better = find("metrics", metric).better
                    yield Score(method, side, metric, mean.mean, mean.low, mean.high, mean.count, better)

    def faithful(self, asked: MethodSpec) -> Iterator[Check]:
        """Whether the method beats a random map, pair by pair."""
        own, random = self.found[str(asked)], self.found["random (control)"]
        for side in SIDES:
            for metric in _JUDGED:
                if (side, metric) not in own:
                    continue
                sign = 1 if find("metrics", metric).better == "higher" else -1
                mean = interval(sign * (own[side, metric] - random[side, metric]), self.seed)
                if mean:
                    about = f"{metric.replace('_', ' ')}, {BOUNDS['faithful'].about}"
                    yield BOUNDS["faithful"].check(metric, str(asked), side, mean, about=about)

    def artefacts(self, asked: MethodSpec, units: Sequence[int]) -> Iterator[Check]:
        """What special tokens and corners take; ``units`` are how many patches each map has."""
        own = self.found[str(asked)]
        named: list[tuple[str, Modality, Any]] = [("special", side, own[side, "special_share"]) for side in SIDES]
        named.append(("corners", "image", own["image", "corner_share"] * np.asarray(units) / 4))
        for name, side, numbers in named:
            mean = interval(numbers, self.seed)
            if mean:
                yield BOUNDS[name].check(name, str(asked), side, mean)
