"""Errors of estimates from random draws: half-widths of intervals, from the variance of the estimator itself.

The true value of a score is what all possible draws would give. The interval of a score at 95 % contains it for about
95 of 100 seeds (``benchmarks/error_coverage.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from jaxtyping import Float

from nibt.errors import BadOption
from nibt.options import Range
from nibt.results.attribution import percent
from nibt.results.notes import ERROR_NOT_REACHED, Note
from nibt.types import UnitValues

LEVEL = 0.95
"""How often the interval of a score contains its true value."""
ENOUGH = 3.0
"""The number of draws per score from which on intervals are as wide as they should be; with fewer, they are wider."""
FEWEST = 1.5
"""The number of draws per score with fewer of which residuals say nothing."""
_MOST = 2000  # draws, from which on Student's t is as good as normal
_FIRST = 16  # draws of the first round, at least
_GROWTH = 0.25  # of the draws in each further round
_FULL = 1 - 1e-9  # the leverage of a draw without which a score could not be estimated
_RCOND = 1e-10  # smaller shares of the largest eigenvalue count as zero

Scores = Float[np.ndarray, "player *value"]
Outcomes = Float[np.ndarray, "draw *value"]
StoppingRule: TypeAlias = Annotated[float, Range(0, 1, above=True)] | None


@dataclass(frozen=True)
class Estimates:
    """The scores of a batch, with their errors.

    Attributes:
        scores: A score per unit, or one for each of several targets.
        error: The half-width of the 95 % interval of each score; None for scores that are no estimates.
        evaluations: The number of changed inputs from which the scores of each item were estimated.
        shares: For each item, the largest error as a share of the largest absolute score.
    """

    scores: UnitValues
    error: UnitValues | None = None
    evaluations: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()

    def notes(self, limit: float | None, subject: str) -> tuple[tuple[Note, ...], ...]:
        """Return a note for each item whose error is above the limit, or empty without any."""
        if limit is None or all(share <= limit for share in self.shares):
            return ()

        notes = []
        for share, count in zip(self.shares, self.evaluations, strict=True):
            after = f"after {count:,} changed inputs"
            text = f"is not known {after}: allow more of them"
            if np.isfinite(share):
                text = f"is {percent(share)} of its largest score {after}, above {limit:g}: allow more of them, or a"
                text += " larger error"
            note = Note(ERROR_NOT_REACHED, f"the error of the scores of the {subject} {text}")
            notes.append(() if share <= limit else (note,))

        return tuple(notes)


def check_limit(error: float | None, views: int, amounts: str) -> None:
    """Check that a limit of the error is not set together with options that change scores after the estimate."""
    if error is None:
        return
    if views > 1:
        raise BadOption(f"error must be left out with several views (got error={error}, views={views})")
    if amounts != "method":
        raise BadOption(f"error must be left out with amounts={amounts} (got error={error})")


def check_no_limit(error: float | None) -> None:
    """Check that there is no limit of the error where scores have none."""
    if error is not None:
        raise BadOption(f"error is for maps, and tables and vectors have none (got {error}): leave it out")


def share_of_error(scores: Scores, errors: Scores) -> float:
    """Return the largest error as a share of the largest absolute score; of several targets, the largest share.

    >>> share_of_error(np.array([1.0, -2.0]), np.array([0.1, 0.2]))
    0.1
    """
    if not errors.size:
        return 0.0

    largest = np.abs(scores).max(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(errors.max(0) > 0, errors.max(0) / largest, 0.0)
    return float(np.max(shares))


def rounds(count: int, least: int) -> Iterator[int]:
    """Yield the numbers of draws after which an error is looked at: at first ``least``, then a quarter more.

    >>> list(rounds(50, 20)), list(rounds(5, 20))
    ([20, 25, 31, 39, 49, 50], [5])
    """
    done = min(count, max(_FIRST, least))
    while done < count:
        yield done
        done = min(count, done + max(1, round(done * _GROWTH)))

    yield count


@dataclass(frozen=True)
class Regression:
    """Independent draws whose outcomes are regressed on their players.

    A coalition with its complement is one draw: the half of the difference of their targets.

    Attributes:
        design: The players of each draw, and other features after them, such that constants have no effect.
        outcomes: The target of each draw, and one column for each further target.
        players: The number of players, the first columns of the design.
        rank: The number of scores that are free.
        constants: The number of constants that were subtracted from all columns.
        moment: The expected square of a player's column, if other players have no effect on it.
        start: What is added to the score of each player.
        of_means: Whether the scores are differences of means, and no coefficients.
    """

    design: Float[np.ndarray, "draw feature"]
    outcomes: Outcomes
    players: int
    rank: int
    constants: int
    moment: float
    start: Float[np.ndarray, "*value"] | float = 0.0
    of_means: bool = False

    def error(self, scores: Scores, level: float = LEVEL) -> Scores:
        """Return the half-widths of intervals around scores, which contain the true values whatever the scores are.

        Scores that a penalty makes smaller, or that too few draws do not determine, are estimates with a bias. So the
        interval is that of an estimate without bias, widened by the distance of the scores from it.

        Args:
            scores: The scores.
            level: How often an interval contains the true value.
        """
        estimate = None if self.of_means else self._least_squares(level)
        center, half = self._moments(level) if estimate is None else estimate
        return np.abs(scores - self.start - center) + half

    def _least_squares(self, level: float) -> tuple[Scores, Scores] | None:
        """Return the coefficients with the half-widths of their intervals; None with too few draws.

        Targets of coalitions are no sums of scores with noise of one size. So the variance is that of random draws,
        whatever the targets are (White, 1980), from residuals that are divided by their expected size (HC2), with the
        degrees of freedom of Bell and McCaffrey (2002); or, with fewer draws, by that of residuals without the draw
        (HC3), which makes the intervals wide.
        """
        count = len(self.design)
        if count < FEWEST * self.rank + self.constants:
            return None

        gram = self.design.T @ self.design
        if np.linalg.matrix_rank(gram, tol=_RCOND * np.abs(gram).max(), hermitian=True) < self.rank:
            return None  # a player is in each of the draws, or in none

        projected = self.design @ np.linalg.pinv(gram, rcond=_RCOND, hermitian=True)
        left = 1 - (projected * self.design).sum(1) - self.constants / count
        if left.min() < 1 - _FULL:
            return None

        outcomes = self.outcomes.reshape(count, -1)
        coefficients = projected.T @ outcomes
        residuals = outcomes - self.design @ coefficients
        is_enough = count >= ENOUGH * self.rank
        scaled = residuals / (np.sqrt(left) if is_enough else left)[:, None]
        influence = projected[:, : self.players]
        deviations = np.sqrt((influence**2).T @ scaled**2)

        freedom = np.full(self.players, float(count - self.rank - self.constants))
        if is_enough and count < _MOST:
            hidden = -projected @ self.design.T - self.constants / count
            hidden[np.diag_indices(count)] += 1
            squares = influence**2 / left[:, None]
            freedom = (squares.T @ left) ** 2 / ((hidden**2 @ squares) * squares).sum(0)

        half = _quantile(freedom, level)[:, None] * deviations
        shape = (self.players, *self.outcomes.shape[1:])
        return coefficients[: self.players].reshape(shape), half.reshape(shape)

    def _moments(self, level: float) -> tuple[Scores, Scores]:
        """Return the means over draws of what each says of each player, with the half-widths of their intervals."""
        count = len(self.design)
        outcomes = self.outcomes.reshape(count, -1)
        design = self.design[:, : self.players] / self.moment
        shape = (self.players, *self.outcomes.shape[1:])
        sums = (design.T @ outcomes).reshape(shape)
        squares = ((design**2).T @ outcomes**2).reshape(shape)
        half = mean_error(sums, squares, count, level)
        half[~design.any(0)] = np.inf  # of a player that is in each draw, or in none, nothing is known
        return sums / max(1, count - self.constants), half


def mean_error(sums: Scores, squares: Scores, count: int, level: float = LEVEL) -> Scores:
    """Return the half-widths of the intervals of means, from the sums of ``count`` values and of their squares.

    They are infinite for one value.
    """
    if count < 2:
        return np.full_like(sums, np.inf)

    variance = (squares - sums**2 / count).clip(0) / (count - 1)
    return _quantile(np.float64(count - 1), level) * np.sqrt(variance / count)


def _quantile(freedom: np.ndarray | np.float64, level: float) -> np.ndarray:
    """Return how many standard errors the half of an interval has, by Student's t."""
    from scipy.special import stdtrit  # which takes long to import, and only estimates need

    return np.asarray(stdtrit(freedom, (1 + level) / 2))
