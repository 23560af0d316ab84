"""What retraining found: how much worse a model learns from data without what a method's maps are highest for.

``SCHEMA`` is the version of the JSON form, which ``docs/roar.md`` describes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nibt.results.saving import JsonSerializable, load

SCHEMA = 1


@dataclass(frozen=True)
class LossIncrease:
    """How much the loss on untouched pairs is higher after training without what a method points at, as a share of the
    loss after training on untouched data: the mean over ``repeats`` with its interval. Higher is better.

    ``lead`` is the difference to a random map. ``untouched`` and ``corrupted`` are the two losses, meant over repeats.
    """

    method: str
    form: str
    hidden: str
    value: float
    low: float
    high: float
    lead: float
    lead_low: float
    lead_high: float
    untouched: float
    corrupted: float
    repeats: int
    control: bool

    @property
    def beats_random(self) -> bool:
        """Whether the interval of the lead lies above 0."""
        return self.lead_low > 0


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau of how two forms rank ``methods`` methods, with its interval.

    Where both are the same form: the mean over each two of its repeats, with the spread of these, which says how far a
    form agrees with itself.
    """

    form: str
    other: str
    hidden: str
    controls: bool
    methods: int
    tau: float
    low: float
    high: float


@dataclass(frozen=True)
class Training:
    """One form as it was trained: how many numbers, at what rate, and the loss before any training."""

    form: str
    parameters: int
    rate: float
    before: float
    after: float
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class Roar(JsonSerializable):
    """All that was found, and every choice that was made."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    methods: tuple[str, ...]
    versions: Mapping[str, str | None]
    machine: Mapping[str, Any]
    date: str
    trainings: tuple[Training, ...]
    gains: tuple[LossIncrease, ...]
    agreements: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        best = sorted(self.gains, key=lambda gain: -gain.value)[:5]
        return "\n".join(
            [
                f"ROAR+ of {self.model.get('id')}: {', '.join(self.methods)}",
                *(
                    f"  {gain.method}, {gain.form}, {gain.hidden}: {gain.value:+.1%} [{gain.low:+.1%}, "
                    f"{gain.high:+.1%}]"
                    for gain in best
                ),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data, the form of the JSON files."""
        return {"schema": SCHEMA, "kind": "roar", **asdict(self)}

    @classmethod
    def load(cls, path: str | Path) -> "Roar":
        """Read a JSON file that ``save`` wrote.

        Raises:
            BadInput: The file is missing, or is no result of this schema.

        """
        return load(path, _from_json, "result of nibt roar")


def _from_json(data: dict[str, Any]) -> Roar:
    if data["schema"] != SCHEMA or data["kind"] != "roar":
        raise ValueError(f"schema {data['schema']} of a {data['kind']}, expected {SCHEMA} of a roar")
    plain = {name: data[name] for name in ("model", "data", "settings", "versions", "machine", "date")}
    return Roar(
        **plain,
        methods=tuple(data["methods"]),
        notes=tuple(data["notes"]),
        trainings=tuple(Training(**one) for one in data["trainings"]),
        gains=tuple(LossIncrease(**one) for one in data["gains"]),
        agreements=tuple(Agreement(**one) for one in data["agreements"]),
    )
