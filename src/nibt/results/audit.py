"""What an audit found: verdict lines with their numbers and thresholds, curves, tables, a few example maps.

``SCHEMA`` is the version of the JSON form, which ``docs/audit.md`` describes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from typing_extensions import override

from nibt.records import read_record
from nibt.results.records import ModelRecord
from nibt.results.saving import JsonSerializable, check_schema

SCHEMA = 1
Verdict = Literal["pass", "warn", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Check:
    """A mean over ``count`` pairs with its bootstrap 95 % interval, and the thresholds of its verdict.

    ``question`` is the number of the question on the page, from 1. ``method`` is empty for a check of the model, and
    ``side`` for a check of both towers. ``passes`` and ``fails`` are the thresholds.
    """

    name: str
    question: int
    method: str
    side: str
    value: float
    low: float
    high: float
    count: int
    better: Literal["higher", "lower"]
    passes: float
    fails: float
    about: str

    @property
    def verdict(self) -> Verdict:
        """The verdict of the value and its interval.

        ``fail``: at the failing threshold or beyond. ``pass``: at the passing threshold or better, with an interval
        that does not reach the failing one. ``warn``: otherwise.
        """
        sign = 1 if self.better == "higher" else -1
        fails, nearest = sign * self.fails, sign * (self.low if self.better == "higher" else self.high)
        if sign * self.value <= fails:
            return "fail"
        return "pass" if sign * self.value >= sign * self.passes and nearest > fails else "warn"


@dataclass(frozen=True)
class Curve:
    """How like the original's the maps stay while a tower is made random from the top: means with their intervals.

    ``stages`` say what has become random, first nothing; ``measure`` is ``spearman`` or ``ssim``.
    """

    method: str
    side: str
    measure: str
    stages: tuple[str, ...]
    values: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]


@dataclass(frozen=True)
class Score:
    """The mean of a metric for a method, or a control, with its interval."""

    method: str
    side: str
    metric: str
    value: float
    low: float
    high: float
    count: int
    better: str


@dataclass(frozen=True)
class Example:
    """One image (a data URI) with a method's maps of it, rows x columns, and its caption's word scores, by name.

    ``region`` is the part (left, top, width, height) of the shown image, as shares of its width and height, that
    the maps cover.
    """

    method: str
    caption: str
    image: str
    region: tuple[float, float, float, float]
    maps: Mapping[str, list[list[float]]]
    words: Mapping[str, list[tuple[str, float]]]


@dataclass(frozen=True, eq=False, repr=False)
class Audit(JsonSerializable):
    """All that an audit found. ``checks`` are in the order of the page."""

    kind: ClassVar[str] = "audit"

    model: ModelRecord
    data: Mapping[str, Any]
    methods: tuple[str, ...]
    seed: int
    seconds: float
    versions: Mapping[str, str]
    checks: tuple[Check, ...]
    curves: tuple[Curve, ...]
    scores: tuple[Score, ...]
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()
    quick: bool = False

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(verdict)} {verdict}" for verdict in VERDICTS)
        return "\n".join(
            [
                f"Audit of {self.model.get('id')}: {self.verdict}",
                f"  {', '.join(self.methods)} on {self.data.get('pairs')} pairs, data set {self.data.get('dataset')}",
                f"  {counts}",
                *(
                    f"  {check.verdict}: {check.about} ({check.method} {check.side})".rstrip()
                    for check in self.checks
                    if check.verdict == "fail"
                ),
            ]
        )

    def request(self) -> dict[str, Any]:
        """What was asked, as plain data."""
        return audit_request(self.model, self.data, self.methods, self.seed, self.quick)

    def count(self, verdict: Verdict) -> int:
        """How many lines have that verdict."""
        return sum(check.verdict == verdict for check in self.checks)

    @property
    def verdict(self) -> Verdict:
        """The worst of all lines."""
        return VERDICTS[max((VERDICTS.index(check.verdict) for check in self.checks), default=0)]

    @override
    def to_json(self) -> dict[str, Any]:
        data = {**asdict(self), "checks": [{**asdict(check), "verdict": check.verdict} for check in self.checks]}
        return {"schema": SCHEMA, "kind": self.kind, "verdict": self.verdict, **data}

    @override
    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Audit":
        plain = dict(check_schema(data, "audit", SCHEMA))
        plain.pop("verdict", None)  # follows from the checks, as that of each check does
        checks = [{name: value for name, value in check.items() if name != "verdict"} for check in plain["checks"]]
        return read_record(cls, {**plain, "checks": checks}, "audit")


def audit_request(
    model: ModelRecord, data: Mapping[str, Any], methods: Sequence[str], seed: int, quick: bool
) -> dict[str, Any]:
    """What an audit is asked, as plain data: two audits of the same request give the same numbers."""
    return {
        "kind": Audit.kind,
        "model": dict(model),
        "data": dict(data),
        "methods": list(methods),
        "seed": seed,
        "quick": quick,
    }
