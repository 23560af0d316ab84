"""What a retraining run is asked to do: every choice of the protocol, checked and written down.

The protocol of ROAR+ is known second-hand (from the papers of M2IB and NIB), so each choice here is ours, and is told
with the numbers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nibt.errors import BadOption

FORMS = ("features", "last", "whole")
HIDDEN = ("image", "text", "both")
STARTS = ("trained", "fresh")
RATES = {"features": 1e-4, "last": 1e-5, "whole": 1e-5}
LEAST_PAIRS = 10


@dataclass(frozen=True)
class Settings:
    """The choices that hold for a whole run.

    ``validation`` is the share of the pairs, in per cent, that validates. Pixels above the ``image_percentile`` of a
    map and tokens above the ``text_percentile`` are hidden. ``rates`` are Adam's, by form; ``blocks`` are trained in
    the form ``last`` (None: a quarter of each tower's). ``batch_size`` is of training, ``explain_batch`` of all else.
    ``start`` is where training starts: ``trained``, the model as it is, or ``fresh``, with heads that know nothing: in
    the form ``features`` maps of normal numbers, else the heads' own parameters, shuffled; another draw each repeat.
    """

    validation: int = 20
    image_percentile: int = 75
    text_percentile: int = 90
    rates: Mapping[str, float] = field(default_factory=lambda: dict(RATES))
    epochs: int = 5
    batch_size: int = 32
    blocks: int | None = None
    start: str = "trained"
    seed: int = 0
    explain_batch: int = 16

    def __post_init__(self) -> None:
        for name in ("validation", "image_percentile", "text_percentile"):
            _check(name, getattr(self, name), 1, 99)
        _check("epochs", self.epochs, 1)
        _check("batch_size", self.batch_size, 2)
        _check("explain_batch", self.explain_batch, 1)
        _check("seed", self.seed, 0)
        if self.blocks is not None:
            _check("blocks", self.blocks, 1)
        if self.start not in STARTS:
            raise BadOption(f"start must be one of {', '.join(STARTS)} (got {self.start!r})")
        for form, rate in self.rates.items():
            if form not in FORMS or not 0 < rate < 1:
                raise BadOption(f"a rate lies between 0 and 1 and is of {', '.join(FORMS)} (got {form}={rate})")

    def record(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "rates": dict(self.rates)}


def rates(given: float | Mapping[str, float] | None) -> dict[str, float]:
    """The rate of each form: one number for all of them, or numbers by form beside the defaults."""
    if given is None:
        return dict(RATES)
    return {**RATES, **given} if isinstance(given, Mapping) else dict.fromkeys(RATES, float(given))


def chosen(name: str, given: str | Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Some of the known names, once each, in their own order.

    Raises:
        BadOption: One is not known, or none is given.

    """
    names = [given] if isinstance(given, str) else list(given)
    for one in names:
        if one not in known:
            raise BadOption(f"{name} must be among {', '.join(known)} (got {one!r})")
    if not names:
        raise BadOption(f"name at least one {name}: {', '.join(known)}")
    return tuple(one for one in known if one in names)


def _check(name: str, value: int, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadOption(f"{name} must be a whole number (got {value!r})")
    if value < least or (most is not None and value > most):
        told = f"lie in {least}..{most}" if most is not None else f"be at least {least}"
        raise BadOption(f"{name} must {told} (got {value})")
