"""The settings of a ROAR run: every choice of the protocol, checked and recorded.

The protocol of ROAR+ is known only from the papers of M2IB and NIB, so each choice here is nibt's own and is printed
with the numbers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from nibt.errors import BadOption, UnknownName
from nibt.records import read_record

TRAINABLES = ("features", "last", "whole")
REMOVALS = ("image", "text", "both")
LEARNING_RATES = {"features": 1e-4, "last": 1e-5, "whole": 1e-5}
LEAST_PAIRS = 10

_Percent = Annotated[int, Field(strict=True, ge=1, le=99)]
_Positive = Annotated[int, Field(strict=True, ge=1)]
_Rate = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Settings:
    """The choices that hold for a whole run.

    Attributes:
        validation: The share of the pairs that validates, in per cent.
        image_percentile: Pixels above this percentile of a map are removed.
        text_percentile: Tokens above this percentile of a map are removed.
        learning_rates: Adam's learning rate, by what is trained.
        epochs: How often each training pair is seen.
        batch_size: Pairs in a training batch.
        blocks: Blocks of each tower that "last" trains; None means a quarter of them.
        init: Where training starts: "trained", the model as it is; or "fresh", heads that know nothing (for "features",
            maps of normal numbers, else the heads' own parameters, shuffled), drawn anew in each repeat.
        seed: The seed of splits, orders and draws.
        explain_batch: Pairs that go through the model together, outside of training.

    """

    validation: _Percent = 20
    image_percentile: _Percent = 75
    text_percentile: _Percent = 90
    learning_rates: Mapping[str, _Rate] = field(default_factory=lambda: dict(LEARNING_RATES))
    epochs: _Positive = 5
    batch_size: Annotated[int, Field(strict=True, ge=2)] = 32
    blocks: _Positive | None = None
    init: Literal["trained", "fresh"] = "trained"
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    explain_batch: _Positive = 16

    @classmethod
    def of(cls, **choices: Any) -> "Settings":
        """Check the choices of a caller.

        Raises:
            UnknownName: There is no such choice.
            BadOption: A choice cannot have that value.

        """
        known = {field.name for field in fields(cls)}
        for name in choices:
            if name not in known:
                raise UnknownName("options", name, known - {"learning_rates"})
        return read_record(cls, choices, "settings", BadOption)

    def record(self) -> dict[str, Any]:
        """The settings as plain data."""
        return TypeAdapter(Settings).dump_python(self)


def learning_rates(value: float | Mapping[str, float] | None) -> dict[str, float]:
    """Return the learning rate of each trainable: one number for all, or numbers by name beside the defaults.

    Raises:
        BadOption: A name is unknown.

    """
    if value is None:
        return dict(LEARNING_RATES)
    if not isinstance(value, Mapping):
        return dict.fromkeys(LEARNING_RATES, float(value))
    for name in value:
        if name not in LEARNING_RATES:
            raise BadOption(str(UnknownName("trainables", name, LEARNING_RATES)))
    return {**LEARNING_RATES, **value}


def chosen(name: str, values: str | Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the known names that are among the values, once each, in their own order.

    Raises:
        BadOption: A value is not known, or there is none.

    """
    names = [values] if isinstance(values, str) else list(values)
    for value in names:
        if value not in known:
            raise BadOption(f"{name} must be among {', '.join(known)} (got {value!r})")
    if not names:
        raise BadOption(f"name at least one {name}: {', '.join(known)}")
    return tuple(value for value in known if value in names)
