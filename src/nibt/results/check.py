"""A check of a map or of a model: a number with its interval, and the thresholds that decide its verdict."""

from dataclasses import dataclass
from typing import Literal

from pydantic import computed_field, model_validator

from nibt.results.base import Serializable

Verdict = Literal["pass", "no verdict", "warn", "cannot tell", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "no verdict", "warn", "cannot tell", "fail")
"""The verdicts, from the best to the worst."""
FEWEST_PAIRS = 24
"""With fewer pairs, no check of pairs has a verdict, except a number of findings."""


@dataclass(frozen=True, eq=False)
class Check(Serializable):
    """One check: a mean over pairs or nouns with its interval, or a number of findings, and what decides its verdict.

    Attributes:
        name: The name of the check.
        question: The number of the page's question that the check belongs to, from 1.
        method: The method; empty for a check of the model.
        side: The side; empty for a check of both towers.
        value: The mean over pairs, or the number of findings.
        low: The lower end of its 95 % interval.
        high: The upper end.
        count: The number of pairs, or of nouns.
        better: Which values are better.
        passes: The threshold from which a value passes.
        fails: The threshold from which a value fails.
        about: A description of the check.
        least_pairs: The least number of pairs with which a value at the passing threshold can pass; 1 for a check that
            is not of pairs.
        unclear: Why a value at or beyond the failing threshold may have another cause than the model, which these data
            do not rule out; empty if they do. For a number of findings: why that there is none shows nothing.
        is_count: Whether the value is a number of findings, each of which was tested by itself. Then it has no
            interval, a finding fails with any number of pairs, and without one the check passes from ``least_pairs``
            on.
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
    least_pairs: int = 1
    unclear: str = ""
    is_count: bool = False

    @model_validator(mode="after")
    def _of_an_interval(self) -> "Check":
        """Check that plain data has a value within its interval."""
        if self.count < 0:
            raise ValueError(f"count must be at least 0 (got {self.count})")

        rounding = 1e-6 * max(1.0, abs(self.value))
        if not self.low - rounding <= self.value <= self.high + rounding:
            raise ValueError(
                f"value must be between low and high (got {self.value:g}, which is not between {self.low:g} and "
                f"{self.high:g})"
            )
        return self

    @computed_field
    @property
    def verdict(self) -> Verdict:
        """The verdict.

        ``fail``: The value is at or beyond the failing threshold. ``cannot tell``: So it is, but it may have another
        cause (``unclear``). ``pass``: The value is at the passing threshold or better, and its interval does not reach
        the failing threshold. ``no verdict``: There are fewer than 24 pairs, or too few for a value at the passing
        threshold to pass. ``warn``: All other values. A number of findings never warns.
        """
        if self.is_count:
            return self._verdict_of_count

        if self.count < min(self.least_pairs, FEWEST_PAIRS):
            return "no verdict"

        if self.reaches_failing:
            return "cannot tell" if self.unclear else "fail"

        if self._is_passing:
            return "pass"

        return "no verdict" if self.count < self.least_pairs else "warn"

    @property
    def _verdict_of_count(self) -> Verdict:
        if self.reaches_failing:
            return "fail"
        if self.count < self.least_pairs:
            return "no verdict"
        return "cannot tell" if self.unclear else "pass"

    @property
    def reaches_failing(self) -> bool:
        """Whether the value is at or beyond the failing threshold."""
        return self.value <= self.fails if self.better == "higher" else self.value >= self.fails

    @property
    def is_passing_value(self) -> bool:
        """Whether the value is at the passing threshold or better, whatever its interval."""
        return self.value >= self.passes if self.better == "higher" else self.value <= self.passes

    @property
    def _is_passing(self) -> bool:
        is_clear = self.low > self.fails if self.better == "higher" else self.high < self.fails
        return self.is_passing_value and is_clear
