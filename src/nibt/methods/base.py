"""A method answers for one side: which of its units made the score. Its options are its dataclass fields."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from nibt.core.side import Side
from nibt.errors import BadOption, UnknownName, Unsupported
from nibt.models.base import Tower
from nibt.registry import Plugin, available, find
from nibt.results.attribution import Attribution
from nibt.types import Modality

Options = Mapping[str, Any]
Need = Literal["attention", "stem"]
SIDES: tuple[Modality, Modality] = ("image", "text")


class LayerAfter(float):
    """In a variant, the layer that *leaves* the block at that share of the depth."""


@dataclasses.dataclass(frozen=True)
class MethodSpec:
    """A method by its name, with a variant and options that are not resolved yet."""

    name: str = "nib"
    variant: str = "default"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "MethodSpec":
        """Read ``nib`` or ``nib:paper``.

        Raises:
            UnknownName: There is no such method.

        """
        name, _, variant = text.partition(":")
        find("methods", name)
        return cls(name, variant or "default")

    def __str__(self) -> str:
        return self.name if self.variant == "default" else f"{self.name}:{self.variant}"

    @property
    def is_random(self) -> bool:
        """Whether the method draws at random, and so takes a seed."""
        return "seed" in {field.name for field in dataclasses.fields(find("methods", self.name))}


@dataclasses.dataclass(frozen=True)
class Method(Plugin, ABC):
    """A subclass is a frozen dataclass; ``variants`` gives named sets of values for its options, by side.

    In a variant, a ``layer`` that is a fraction means that share of the depth. ``cost`` says how many plain forward
    passes of the tower an explanation takes, with the options' names in it; ``needs`` is what a tower must offer.
    """

    paper: ClassVar[str] = ""
    cost: ClassVar[str] = ""
    needs: ClassVar[tuple[Need, ...]] = ()
    signed: ClassVar[bool] = True
    """Whether the sign of a score says which way a unit moves the target; if not, a score says how much only."""
    sides: ClassVar[tuple[Modality, ...]] = ("image", "text")
    variants: ClassVar[Mapping[str, Mapping[Modality, Options]]] = {"default": {"image": {}, "text": {}}}

    @abstractmethod
    def __call__(self, side: Side) -> Attribution:
        """The scores of a batch."""

    @classmethod
    def configured(cls, tower: Tower, variant: str, options: Options, recommended: Options) -> "Method":
        """The method for one tower. Options of one side carry its name in front: ``image_layer``.

        ``recommended`` is what the model's maker says. It serves the default variant only, where that is nibt's own
        and not the paper's, and only the options that the variant sets.

        Raises:
            UnknownName: There is no such variant.
            BadOption: There is no such option, or it cannot have that value.
            Unsupported: The tower lacks what the method needs.

        """
        if variant not in cls.variants:
            raise UnknownName("variants", variant, cls.variants)
        cls._check_names(options)
        own = cls.variants[variant][tower.modality]
        values = dict(own)
        if variant == "default" and own != cls.variants.get("paper", {}).get(tower.modality):
            told = _of_side(recommended, tower.modality, prefixed_only=True)
            values |= {name: value for name, value in told.items() if name in own}
        values |= _of_side(options, tower.modality)
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        method = cls(
            **{
                name: _layers(value, tower) if name == "layer" else _parsed(name, value, types[name])
                for name, value in values.items()
                if name in types
            }
        )
        method.check(tower)
        return method

    def required(self) -> tuple[Need, ...]:
        """What a tower must offer for these options."""
        return self.needs

    def check(self, tower: Tower) -> None:
        """Whether the tower offers what these options need.

        Raises:
            Unsupported: It does not; the message names methods that can do with what it offers.

        """
        lacking = [need for need in self.required() if need not in tower.offers]
        if not lacking:
            return
        able = [name for name in available("methods") if tower.offers.issuperset(find("methods", name).needs)]
        raise Unsupported(
            f"{type(self).__name__} needs {' and '.join(lacking)}, and this {tower.modality} tower, a "
            f"{type(tower).__name__}, has none; methods that need less: {', '.join(able)}"
        )

    @classmethod
    def _check_names(cls, options: Options) -> None:
        known = {field.name for field in dataclasses.fields(cls)}
        for name in options:
            if name not in known and not any(name == f"{side}_{own}" for side in SIDES for own in known):
                raise UnknownName("options", name, known)

    def options(self) -> dict[str, Any]:
        """The resolved options, as they are recorded."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


def _of_side(options: Options, modality: Modality, prefixed_only: bool = False) -> dict[str, Any]:
    """The options that hold for a side; those that name it win over those that do not. None means not given."""
    given = {key: value for key, value in options.items() if value is not None}
    common = {} if prefixed_only else {k: v for k, v in given.items() if not k.startswith(("image_", "text_"))}
    return common | {k.removeprefix(f"{modality}_"): v for k, v in given.items() if k.startswith(f"{modality}_")}


def _layers(value: Any, tower: Tower) -> tuple[int, ...]:
    if isinstance(value, float) and 0 < value < 1:
        return (min(tower.relative(value) + isinstance(value, LayerAfter), tower.depth),)
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    layers = tuple(_parsed("layer", part, int) for part in parts)
    if not layers:
        raise BadOption("layer is an empty list: give at least one layer")
    for layer in layers:
        tower.check_layer(layer)
    return layers


def _parsed(name: str, value: Any, kind: Any) -> Any:
    """An option's value, from the text of a command line or from Python, as the type that its field has."""
    kinds = [part for part in getattr(kind, "__args__", (kind,)) if part is not type(None)]
    target = kinds[0] if kinds and kinds[0] in (int, float, str, bool) else str
    try:
        if target is bool:
            return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
        if target is int and (isinstance(value, bool) or float(value) != int(float(value))):
            raise ValueError
        number: Any = int(float(value)) if target is int else target(value)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise BadOption(f"{name} must be {_NAMES[target]} (got {value!r})") from error
    if target is float and not math.isfinite(number):
        raise BadOption(f"{name} must be a finite number (got {value!r})")
    return number


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
