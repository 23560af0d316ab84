"""The result of ROAR: the increase of the loss after training without what a method marks as important.

The JSON form is described in ``docs/guides/roar.md``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from nibt.records import JsonObject
from nibt.results.base import Result
from nibt.results.sessions import MachineRecord
from nibt.types import ModelRecord


@dataclass(frozen=True)
class LossIncrease:
    """The increase of the loss after training without what a method marks as important.

    Attributes:
        method: The method.
        trainable: What was trained.
        side: The side whose most important part was removed: "image", "text" or "both".
        value: The increase as a share of the loss after training on untouched data, the mean over repeats.
        low: The lower end of its 95 % interval.
        high: The upper end.
        vs_random: The difference from the increase of a random map.
        vs_random_low: The lower end of its 95 % interval.
        vs_random_high: The upper end.
        untouched: The loss after training on untouched data, the mean over repeats.
        corrupted: The loss after training on data without the important part, the mean over repeats.
        repeats: The number of repeats.
        control: Whether the method is a negative control.
    """

    method: str
    trainable: str
    side: str
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
        """Whether the interval of the difference from a random map is above 0."""
        return self.vs_random_low > 0


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau between the rankings of methods by two trainables, with its 95 % interval.

    If ``trainable`` and ``other`` are equal, ``tau`` is the mean over pairs of repeats of the trainable, and ``low``
    and ``high`` are the 2.5th and 97.5th percentiles over these pairs.

    Attributes:
        trainable: The first trainable.
        other: The second trainable.
        side: The side whose most important part was removed: "image", "text" or "both".
        controls: Whether negative controls are among the ranked methods.
        methods: The number of ranked methods.
        tau: Kendall's tau, in [-1, 1].
        low: The lower end of its interval.
        high: The upper end.
    """

    trainable: str
    other: str
    side: str
    controls: bool
    methods: int
    tau: float
    low: float
    high: float


@dataclass(frozen=True)
class Training:
    """The training of a trainable.

    Attributes:
        trainable: What was trained.
        parameters: The number of trained parameters.
        learning_rate: Adam's learning rate.
        before: The loss before any training.
        after: The loss after training on untouched data.
        seconds: The mean time of a training run, in seconds.
    """

    trainable: str
    parameters: int
    learning_rate: float
    before: float
    after: float
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class Roar(Result):
    """The result of a ROAR run.

    Attributes:
        model: The model and its hashes.
        data: The data set.
        settings: The settings of the run.
        methods: The methods, controls included.
        versions: The versions of packages.
        machine: The machine.
        date: When the run began: ISO 8601, UTC.
        trainings: The training of each trainable.
        loss_increases: The increase of the loss for each method, trainable and removed side.
        agreements: The agreement between trainables.
        notes: Warnings.
    """

    kind: ClassVar[str] = "roar"
    schema: ClassVar[int] = 2

    model: ModelRecord
    data: JsonObject
    settings: JsonObject
    methods: tuple[str, ...]
    versions: Mapping[str, str | None]
    machine: MachineRecord
    date: str
    trainings: tuple[Training, ...]
    loss_increases: tuple[LossIncrease, ...]
    agreements: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()

    def _lines(self) -> Iterator[str]:
        yield f"ROAR+ of {self.model.get('id')}: {', '.join(self.methods)}"
        for increase in sorted(self.loss_increases, key=lambda increase: -increase.value)[:5]:
            yield (
                f"  {increase.method}, {increase.trainable}, {increase.side}: {increase.value:+.1%} "
                f"[{increase.low:+.1%}, {increase.high:+.1%}]"
            )
