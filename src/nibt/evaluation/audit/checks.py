"""The thresholds of an audit, and questions 5 to 8, which metrics and the model itself answer.

``docs/explanation/study_audit.md`` has the reasons of the thresholds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from nibt.data.pair import Pair
from nibt.engine.batches import BatchCache
from nibt.evaluation.finished import NOTHING_FINISHED, FinishedWork
from nibt.evaluation.measure import measure
from nibt.evaluation.shared import KeptEmbeddings
from nibt.evaluation.statistics import Interval, gaffke, interval, student, within
from nibt.evaluation.vocabulary import unknown_nouns
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.preprocessing.captions import NOUNS
from nibt.registry import MethodSpec, find
from nibt.results.audit import MetricMean
from nibt.results.check import FEWEST_PAIRS, Check
from nibt.types import MeasuredSide

LEAST_PAIRS = 8
"""The least number of pairs of an audit; below ``FEWEST_PAIRS``, its checks have values, but no verdict."""


@dataclass(frozen=True)
class Bound:
    """The thresholds of a check of a question, the range of its values, and how its interval is computed.

    Attributes:
        question: The number of the question.
        better: Which values are better.
        passes: The threshold from which a value passes.
        fails: The threshold from which a value fails.
        about: A description of the check.
        least: The least possible value of a pair.
        most: The largest possible value of a pair.
        interval: The rule of the interval. ``gaffke`` where values are skewed toward a bound that is near the
            thresholds: Student's interval of such values lets a model pass too often (``benchmarks/coverage.py``).
            Values that are no means over pairs have intervals of their own.
    """

    question: int
    better: Literal["higher", "lower"]
    passes: float
    fails: float
    about: str
    least: float = 0.0
    most: float = 1.0
    interval: Literal["gaffke", "student"] = "gaffke"

    def least_pairs(self, least: float, most: float) -> int:
        """Return with how many pairs, all at the passing threshold, the check can pass if values have these bounds.

        The farther end of Gaffke's interval of n equal values is at a share of 1 - 0.025 ** (1 / n) of the way from
        the value to the bound.
        """
        bound = most if self.better == "lower" else least
        if self.interval == "student" or not math.isfinite(bound):
            return FEWEST_PAIRS

        way = (self.fails - self.passes) / (bound - self.passes)
        if way >= 1:  # the failing threshold is at the bound
            return FEWEST_PAIRS
        return max(FEWEST_PAIRS, 1 + math.floor(math.log(0.025) / math.log(1 - way)))


@dataclass(frozen=True, eq=False)
class CheckValues:
    """What a check is computed from: a value for each pair, NaN for a pair without one.

    Attributes:
        name: The name of the check.
        method: The method; empty for a check of the model.
        side: The side; empty for a check of both towers.
        values: The values, (pair).
        bound: The name of its thresholds in ``BOUNDS``; empty if it is the name of the check.
        about: A description, in place of that of the thresholds.
        least: The least possible value of these pairs, in place of that of all pairs.
        most: The largest possible value of these pairs, likewise.
        fails: The failing threshold, in place of that of ``BOUNDS``.
        mean: The value and its interval, if it is not the mean of the values.
    """

    name: str
    method: str
    side: str
    values: np.ndarray
    bound: str = ""
    about: str = ""
    least: float | None = None
    most: float | None = None
    fails: float | None = None
    mean: Interval | None = None

    def check(self, bounds: "Mapping[str, Bound] | None" = None) -> Check | None:
        """Return the check; None if fewer than two pairs have a value, or if equal values have no bound.

        ``bounds`` are the thresholds of checks by their names; None means those of an audit of pairs.
        """
        bound = (BOUNDS if bounds is None else bounds)[self.bound or self.name]
        least = bound.least if self.least is None else self.least
        most = bound.most if self.most is None else self.most

        mean = self._mean(bound.interval, least, most)
        if not mean.has_ends:
            return None

        ends = within(mean, (least, most))
        return Check(
            name=self.name,
            question=bound.question,
            method=self.method,
            side=self.side,
            value=ends.mean,
            low=ends.low,
            high=ends.high,
            count=known_count(self.values),
            better=bound.better,
            passes=bound.passes,
            fails=bound.fails if self.fails is None else self.fails,
            about=self.about or bound.about,
            least_pairs=bound.least_pairs(least, most),
        )

    def _mean(self, rule: str, least: float, most: float) -> Interval:
        if self.mean is not None:
            return self.mean

        if rule == "student" and np.nanmin(self.values, initial=math.inf) < np.nanmax(self.values, initial=-math.inf):
            return student(self.values)
        return gaffke(self.values, (least, most))


def worst_first(values: np.ndarray, better: Literal["higher", "lower"]) -> list[int]:
    """Return the positions of values, the worst first and unknown ones last."""
    sign = 1 if better == "higher" else -1
    return np.argsort(sign * values, kind="stable").tolist()


def known_count(values: Any) -> int:
    """Return the number of values that are not NaN."""
    return int((~np.isnan(np.asarray(values, float))).sum())


_CORNERS = 16.0  # the score relative to a uniform map if all of it is in four of 8 x 8 cells
_BORDER = 16 / 7  # likewise, in the outermost ring

BOUNDS = {
    "weights": Bound(1, "lower", 0.4, 0.7, "similarity to the map of a random tower", -1.0, interval="student"),
    "weights_ssim": Bound(1, "lower", 0.4, 0.7, "similarity to the map of a random tower (SSIM)", -1.0),
    "mismatch_image": Bound(
        2, "lower", 0.6, 0.9, "similarity to the map for another caption", -1.0, interval="student"
    ),
    "nonsense": Bound(2, "lower", 0.6, 0.9, "similarity to the map for made-up words", -1.0),
    "mismatch_text": Bound(
        2, "lower", 0.6, 0.9, "similarity to the scores with another image", -1.0, interval="student"
    ),
    "wording": Bound(3, "higher", 0.7, 0.4, "similarity to the maps for other wordings", -1.0),
    "seed": Bound(4, "lower", 0.05, 0.5, "dissimilarity of the maps of different seeds", most=2.0),
    "faithful": Bound(5, "higher", 0.05, 0.0, "improvement over a random map", -math.inf, math.inf, interval="student"),
    "located": Bound(5, "higher", 0.05, 0.0, "improvement over a random map", -1.0),
    "top_region": Bound(5, "higher", 0.9, 0.5, "regions whose removal lowers the similarity less than the top region"),
    "noun_places": Bound(
        5, "higher", 0.0, 0.0, "positive score where the map of a noun alone is highest", -math.inf, math.inf
    ),
    "special": Bound(6, "lower", 0.5, 0.9, "share of the score on special tokens"),
    "corners": Bound(
        6, "lower", 2.0, 4.0, "share of the score in the corners, relative to a uniform map", most=_CORNERS
    ),
    "auc": Bound(7, "higher", 0.8, 0.6, "right captions ranked above wrong captions (AUC)"),
    "recall": Bound(7, "higher", 0.5, 0.0, "right captions ranked first (R@1; fails at chance)"),
    "vocabulary": Bound(8, "higher", 0.9, 0.0, "share of 1,000 everyday nouns that the model knows"),
    "inside": Bound(9, "higher", 0.5, 0.4, "positive score on named objects (uniform map: 0)", -1.0),
    "typography": Bound(9, "lower", 0.05, 0.15, "positive score on text in the image (uniform map: 0)", -1.0),
    "border": Bound(9, "lower", 0.75, 1.0, "positive score at the border, relative to a uniform map", most=_BORDER),
    "fixed_place": Bound(9, "lower", 1.4, 2.0, "same places in images, relative to mirrored places", most=4.0),
    "exchange": Bound(
        9, "lower", 0.25, 0.35, "share of the similarity that what is beside the objects decides", -1.0, 2.0, "student"
    ),
    "words": Bound(9, "lower", 0.3, 0.5, "positive score on words that name no object"),
    "exchange_words": Bound(
        9,
        "lower",
        0.25,
        0.35,
        "share of the similarity that the words that name no object decide",
        -1.0,
        2.0,
        "student",
    ),
}


_GROUND_TRUTH_METRICS = ("pointing_game", "average_precision", "word_auc")
_CURVE_METRICS = ("deletion", "insertion")
# docs/guides/audit.md explains why confidence is not checked
_CONFIDENCE_METRICS = ("confidence_drop", "confidence_increase")
_CHECKED_METRICS = (*_CURVE_METRICS, *_GROUND_TRUTH_METRICS)
_CONTROL_SEED_OFFSET = 104729  # so that a random control differs from an audited random map
Values = dict[tuple[MeasuredSide, str], np.ndarray]
"""The values of all pairs, by side and metric."""


class MetricScores:
    """The value of each metric for each method, side and pair.

    Without ``with_confidence``, confidence drop and increase, which have no check, are left out.
    """

    def __init__(
        self,
        model: Model,
        pairs: Sequence[Pair],
        seed: int,
        batch_size: int,
        levels: int,
        cache: BatchCache | None,
        finished: FinishedWork = NOTHING_FINISHED,
        with_confidence: bool = True,
    ) -> None:
        self.model = model
        self.pairs = list(pairs)
        self.seed = seed
        self.batch_size = batch_size
        self.cache = cache
        self.finished = finished
        has_objects = any(object_.spans for pair in pairs for object_ in pair.objects)
        names = [
            *_CURVE_METRICS,
            *(_CONFIDENCE_METRICS if with_confidence else ()),
            *(_GROUND_TRUTH_METRICS if has_objects else ()),
            "special_token_share",
        ]
        self.metrics = [find("metrics", name)(**{"levels": levels} if name in _CURVE_METRICS else {}) for name in names]
        self.by_method: dict[str, Values] = {}

    def add(self, method: MethodSpec, control: bool = False) -> None:
        """Measure a method or a control. Controls use another seed than audited methods."""
        values = self.by_method.setdefault(f"{method} (control)" if control else str(method), {})
        seed = self.seed + _CONTROL_SEED_OFFSET * control if method.is_random else None

        def measured() -> list[tuple[str, str, int, float]]:
            records = measure(
                self.model, self.pairs, self.metrics, method, seed=seed, batch_size=self.batch_size, cache=self.cache
            )
            return [(record.side, record.metric, record.item, record.value) for record in records]

        for side, metric, item, value in self.finished.values(f"metrics of {method}, seed {seed}", measured):
            values.setdefault((side, metric), np.full(len(self.pairs), np.nan))[item] = value

    def scores(self) -> Iterator[MetricMean]:
        """Yield the mean of each method, side and metric that was measured."""
        for method, values in self.by_method.items():
            for (side, metric), numbers in values.items():
                measured = find("metrics", metric)
                mean = within(interval(numbers, measured.bounds), measured.bounds)
                if mean.has_ends:
                    yield MetricMean(method, side, metric, *mean, known_count(numbers), measured.better)

    def faithfulness(self, method: MethodSpec, unit_counts: Mapping[str, np.ndarray]) -> Iterator[CheckValues]:
        """Yield the difference from a random map, on each side and for each metric; positive is better.

        Maps of one unit are left out: they have one order, as random maps have.
        """
        measured = self.by_method[str(method)]
        random = self.by_method["random (control)"]
        for side in SIDES:
            for metric in _CHECKED_METRICS:
                if (side, metric) not in measured:
                    continue

                sign = 1 if find("metrics", metric).better == "higher" else -1
                differences = sign * (measured[side, metric] - random[side, metric])
                differences = np.where(unit_counts[side] > 1, differences, np.nan)
                about = f"{metric.replace('_', ' ')}: {BOUNDS['faithful'].about}"
                bound = "located" if metric in _GROUND_TRUTH_METRICS else "faithful"
                yield CheckValues(metric, str(method), side, differences, bound=bound, about=about)

    def special_tokens(self, method: MethodSpec) -> Iterator[CheckValues]:
        """Yield the share of the score on special tokens, on each side."""
        measured = self.by_method[str(method)]
        for side in SIDES:
            yield CheckValues("special", str(method), side, measured[side, "special_token_share"])


_DIGITS = 5  # smaller differences of similarities are rounding errors


def discrimination(model: Model, pairs: Sequence[Pair], kept: KeptEmbeddings | None = None) -> list[CheckValues]:
    """Return the rank of each image's caption among all different captions of the data.

    ``kept`` are the embeddings of the pairs, if they are known.
    """
    kept = kept or KeptEmbeddings(model)
    captions = list(dict.fromkeys(pair.caption for pair in pairs))
    images = kept.of("image", [pair.image for pair in pairs])
    texts = kept.of("text", captions)
    similarities = np.round(model.similarity.to_each(images.float(), texts.float()).cpu().numpy(), _DIGITS)
    areas = []
    recalls = []
    for row, pair in zip(similarities, pairs, strict=True):
        right = captions.index(pair.caption)
        wrong = np.delete(row, right)
        areas.append(float(np.mean((wrong < row[right]) + 0.5 * (wrong == row[right]))))
        recalls.append(float(row[right] == row.max()) / np.sum(row == row.max()))

    return [
        CheckValues("auc", "", "", np.array(areas)),
        CheckValues("recall", "", "", np.array(recalls), fails=1 / len(captions)),
    ]


def vocabulary_check(model: Model, nouns: Sequence[str] = NOUNS) -> tuple[Check, tuple[str, ...]]:
    """Check which nouns the model knows, and return those that it does not know."""
    unknown = unknown_nouns(model, nouns)
    known = np.array([float(noun not in unknown) for noun in nouns])
    check = CheckValues("vocabulary", "", "text", known).check()
    assert check is not None, "there are nouns"
    return replace(check, least_pairs=1), unknown  # a value for each noun, not for each pair
