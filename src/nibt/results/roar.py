"""The result of ROAR: how much worse a model learns from data without what a method's maps are highest for.

``SCHEMA`` is the version of the JSON form, which ``docs/roar.md`` describes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from typing_extensions import override

from nibt.records import read_record
from nibt.results.records import MachineRecord, ModelRecord
from nibt.results.saving import JsonSerializable, check_schema

SCHEMA = 2


@dataclass(frozen=True)
class LossIncrease:
    """How much higher the loss is after training without what a method points at.

    Attributes:
        method: The method.
        trainable: What was trained.
        removed: Of what the most important part was removed: "image", "text" or "both".
        value: The increase as a share of the loss after training on untouched data, the mean over repeats.
        low: The lower end of its 95 % interval.
        high: The upper end.
        vs_random: The difference to the increase of a random map.
        vs_random_low: The lower end of its 95 % interval.
        vs_random_high: The upper end.
        untouched: The loss after training on untouched data, the mean over repeats.
        corrupted: The loss after training without it, the mean over repeats.
        repeats: The number of repeats.
        control: Whether the method is a negative control.

    """

    method: str
    trainable: str
    removed: str
    value: float
    low: float
    high: float
    vs_random: float
    vs_random_low: float
    vs_random_high: float
    untouched: float
    corrupted: float
    repeats: int
    control: bool

    @property
    def beats_random(self) -> bool:
        """Whether the interval of the difference to a random map lies above 0."""
        return self.vs_random_low > 0


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau of the rankings of methods by two trainables, with its 95 % interval.

    For one trainable with itself: the mean over each two of its repeats, with the spread of these, which says how far
    it agrees with itself. ``controls`` says whether the negative controls are among the ``methods`` ranked methods.
    """

    trainable: str
    other: str
    removed: str
    controls: bool
    methods: int
    tau: float
    low: float
    high: float


@dataclass(frozen=True)
class Training:
    """How a trainable was trained.

    Attributes:
        trainable: What was trained.
        parameters: The number of trained parameters.
        learning_rate: Adam's learning rate.
        before: The loss before any training.
        after: The loss after training on untouched data.
        seconds: The mean time of a training, in seconds.

    """

    trainable: str
    parameters: int
    learning_rate: float
    before: float
    after: float
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class Roar(JsonSerializable):
    """The result of a run, with every choice."""

    kind: ClassVar[str] = "roar"

    model: ModelRecord
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    methods: tuple[str, ...]
    versions: Mapping[str, str | None]
    machine: MachineRecord
    date: str
    trainings: tuple[Training, ...]
    loss_increases: tuple[LossIncrease, ...]
    agreements: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        best = sorted(self.loss_increases, key=lambda increase: -increase.value)[:5]
        return "\n".join(
            [
                f"ROAR+ of {self.model.get('id')}: {', '.join(self.methods)}",
                *(
                    f"  {one.method}, {one.trainable}, {one.removed}: {one.value:+.1%} "
                    f"[{one.low:+.1%}, {one.high:+.1%}]"
                    for one in best
                ),
            ]
        )

    @override
    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "kind": self.kind, **asdict(self)}

    @override
    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Roar":
        return read_record(cls, check_schema(data, "roar", SCHEMA), "roar")
