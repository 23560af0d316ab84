"""The settings of a ROAR run.

The papers of M2IB and NIB do not specify all details of ROAR+. These settings are nibt's choices, and the report lists
them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from nibt.errors import BadOption, UnknownName
from nibt.options import BatchSize, Blocks, Epochs, OpenShare, Percent, Seed, TrainBatch
from nibt.records import JsonObject, read_record

TRAINABLES = ("features", "last", "whole")
REMOVALS = ("image", "text", "both")
LEARNING_RATES = {"features": 1e-4, "last": 1e-5, "whole": 1e-5}
LEAST_PAIRS = 10

_STRICT = Field(strict=True)


@dataclass(frozen=True)
class Settings:
    """The settings of a ROAR run.

    Attributes:
        validation: The share of the pairs for validation, in percent.
        image_percentile: Pixels above this percentile of a map are removed.
        text_percentile: Tokens above this percentile of a map are removed.
        learning_rates: Adam's learning rate of each trainable.
        epochs: The number of epochs.
        batch_size: The largest number of pairs in a training batch.
        blocks: The number of blocks of each tower that "last" trains; None means a quarter of them.
        init: The weights at the start of training: "trained" (those of the model) or "fresh" (untrained heads). Fresh
            heads have normally distributed weights for "features", and shuffled weights otherwise. Each repeat draws
            new heads.
        seed: The seed of splits, orders and draws.
        explain_batch: The largest number of pairs that go through the model together outside of training.
    """

    validation: Annotated[Percent, _STRICT] = 20
    image_percentile: Annotated[Percent, _STRICT] = 75
    text_percentile: Annotated[Percent, _STRICT] = 90
    learning_rates: Mapping[str, OpenShare] = field(default_factory=lambda: dict(LEARNING_RATES))
    epochs: Annotated[Epochs, _STRICT] = 5
    batch_size: Annotated[TrainBatch, _STRICT] = 32
    blocks: Annotated[Blocks, _STRICT] | None = None
    init: Literal["trained", "fresh"] = "trained"
    seed: Annotated[Seed, _STRICT] = 0
    explain_batch: Annotated[BatchSize, _STRICT] = 16

    @classmethod
    def of(cls, **choices: Any) -> "Settings":
        names = {field.name for field in fields(cls)}
        for name in choices:
            if name not in names:
                raise UnknownName("options", name, names - {"learning_rates"})
        return read_record(cls, choices, "settings", BadOption)

    def record(self) -> JsonObject:
        return TypeAdapter(Settings).dump_python(self)


def learning_rates(value: float | Mapping[str, float] | None, trainables: Sequence[str]) -> dict[str, float]:
    """Return the learning rate of each trainable; those that are given by name must be trained."""
    if value is None:
        return dict(LEARNING_RATES)
    if not isinstance(value, Mapping):
        return dict.fromkeys(LEARNING_RATES, float(value))

    for name in value:
        if name not in LEARNING_RATES:
            raise BadOption(str(UnknownName("trainables", name, LEARNING_RATES)))
        if name not in trainables:
            raise BadOption(f"learning_rate has no effect for {name}, which is not trained: leave it out, or train it")

    return {**LEARNING_RATES, **value}


_USED_WITH = {
    "blocks": ("trainable", ("last",)),
    "image_percentile": ("side", ("image", "both")),
    "text_percentile": ("side", ("text", "both")),
}


def check_used(settings: Mapping[str, object], **chosen: Sequence[str]) -> None:
    """Check that settings have an effect beside what is trained and what is removed."""
    for name, (argument, values) in _USED_WITH.items():
        if settings.get(name) is not None and not {*values} & {*chosen[argument]}:
            needed = " or ".join(values)
            got = ", ".join(chosen[argument])
            raise BadOption(
                f"{name} has no effect without {argument}={needed} (got {got}): leave {name} out, or add "
                f"{values[0]} to {argument}"
            )


def checked_names(name: str, values: str | Iterable[str], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Check names, and return them without repetitions in the order of ``allowed``."""
    names = [values] if isinstance(values, str) else list(values)
    for value in names:
        if value not in allowed:
            raise BadOption(f"{name} must be among {', '.join(allowed)} (got {value!r})")

    if not names:
        raise BadOption(f"{name} is empty: name at least one of {', '.join(allowed)}")
    return tuple(value for value in allowed if value in names)
