"""The contract of methods: a method attributes the score of one side to its units. Its options are its fields."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Words
from nibt.errors import BadOption, UnknownName, Unsupported
from nibt.methods._vectors import SideVectors, TableScores
from nibt.methods._views import Views
from nibt.models.base import Tower
from nibt.options import Either, Keywords, Layers, complete, field_types, parsed
from nibt.options import Views as ViewCount
from nibt.registry import Plugin, available, find
from nibt.results.attribution import Attribution, PathSummary
from nibt.types import Modality, PerToken

Options = Mapping[str, object]
Need = Literal["states", "attention", "stem", "vectors", "answer"]
SIDES: tuple[Modality, Modality] = ("image", "text")


@dataclass(frozen=True)
class Method(Plugin, ABC):
    """Base class of methods. A subclass is a frozen dataclass whose fields are its options.

    Args:
        views: The number of views of an image (shifted windows), 1 to 16. They add details to the map of the image that
            is not shifted, and keep its sum; the sum of a map without signs may increase.
        amounts: What the sizes of the scores of an image measure: ``method``, what the method computes, or ``removal``,
            the decrease of the target if a region of the map is filled in from the pixels around it. The scores of all
            methods then have signs. The filled area is wider than the region, cells of a region with the opposite sign
            become 0, and a note says if a region changes its sign. For captions, use ``occlusion`` instead.

    Attributes:
        paper: The source of the method.
        category: What the scores are computed from: gradients along a path, gradients at one state, attention weights,
            or the model's outputs for changed inputs. A control does not use the model.
        cost: The cost of an explanation in forward passes of the tower, as a formula of the options, ``depth`` (the
            number of blocks) and ``units``. ``forwards`` evaluates it.
        needs: What a tower must offer: hidden ``states`` and gradients at them, ``attention``, first tokens (``stem``),
            ``vectors`` of late interaction, or the ``answer`` of a generator.
        sides: The sides that the method explains.
        variants: Named sets of values of the options, by side. A fraction as ``layer`` is a fraction of the depth.
    """

    paper: ClassVar[str] = ""
    category: ClassVar[Literal["path", "gradient", "attention", "perturbation", "control", "other"]] = "other"
    cost: ClassVar[str] = ""
    needs: ClassVar[tuple[Need, ...]] = ()
    signed: ClassVar[bool] = True
    """Whether the sign of a score is the direction in which a unit moves the target; if not, only its size counts."""
    uses_gradients: ClassVar[bool] = False
    """Whether the method computes gradients of the model with its default options."""
    reads_score: ClassVar[bool] = True
    """Whether the scores depend on the target."""
    takes_recommended: ClassVar[bool] = False
    """Whether options that a model recommends apply to the variants ``default`` and ``fast``."""
    linear: ClassVar[bool] = False
    """Whether the scores are linear in the target. Each unit then has a vector, whose product with the unit embedding
    of the other side is its score, and two sides have a table (``nibt.methods._vectors``)."""
    layer_leaves_block: ClassVar[bool] = False
    """Whether a fraction as ``layer`` is the layer that leaves the block there; if not, the layer that enters it."""
    table_tolerance: ClassVar[float | None] = None
    """The default tolerance of tables, for methods that have one."""
    task_defaults: ClassVar[Mapping[str, Options]] = {}
    """Options that differ from the default: ``answer`` for answers of generators, ``images`` for two images."""
    conditions: ClassVar[Mapping[str, tuple[str, tuple[object, ...]]]] = {}
    """Options that have an effect only beside some values of another: ``{"floor": ("quadrature", ("geometric",))}``."""
    sides: ClassVar[tuple[Modality, ...]] = ("image", "text")
    variants: ClassVar[Mapping[str, Mapping[Modality, Options]]] = {"default": {"image": {}, "text": {}}}

    views: ViewCount = field(default=1, kw_only=True)
    amounts: Annotated[str, Either(("method", "removal"))] = field(default="method", kw_only=True)

    __post_init__ = complete

    def __call__(self, side: Side) -> Attribution:
        """Compute the scores of a batch."""
        views = Views.of(side, self.views, self.layers, self.lowest) if self.views > 1 else None
        attribution = self.attribute(side)
        if views:
            of_shifted = self.for_shifted_views(side.tower)
            # a loop variable would keep the trace of a view while that of the next one is computed
            shifted = list(map(of_shifted.attribute, views.shifted_sides()))
            attribution = views.merge([attribution, *shifted], self.signed or self.linear)
        if not isinstance(attribution, Attribution):
            got = type(attribution).__name__
            raise BadOption(f"the method {self.name} must return an Attribution (got {got}): correct its class")

        # if the score itself is not finite, the model is to blame, and the engine says so
        sums = attribution.scores.float().abs().sum()  # of results, whose numbers are float32
        if not sums.isfinite() and side.score(side.trace.embedding).isfinite().all():
            raise BadOption(
                f"the method {self.name} gave scores that are NaN, infinite or too large for float32: change its "
                "options, load the model in float32, or correct its class"
            )
        if self.amounts == "method":
            return attribution

        from nibt.methods._amounts import scaled_by_removal  # which amounts of the method itself do not need

        return scaled_by_removal(side, attribution)

    @abstractmethod
    def attribute(self, side: Side) -> Attribution:
        """Compute the scores of a batch from one view."""

    def for_shifted_views(self, tower: Tower) -> "Method":
        """Return the method of the shifted views, which only divide the score of a unit among its cells.

        Override it if less accuracy is enough for this.
        """
        return self

    def vectors(self, side: Side) -> SideVectors:
        """Return the vectors of the units of a side with one example.

        Raises:
            BadOption: The method is not linear in the target with these options.
        """
        self.check_amounts("tables and vectors")
        if not self.linear:
            able = ", ".join(linear_methods())
            raise BadOption(f"{self.name} is not linear in the target, so a unit has no vector: choose one of {able}")
        return self.linear_vectors(side)

    def linear_vectors(self, side: Side) -> SideVectors:
        """Compute the vectors of a linear method; override it if there is a cheaper way than a map for each axis."""
        from nibt.methods._unit_vectors import UnitVectors  # which explanations do not need

        return UnitVectors.of_maps(side, self)

    def table(self, image: Side, text: Side, words: Words, of_text: "Method") -> TableScores:
        """Compute the words x patches table of one pair; the target is ``cosine``.

        Linear methods multiply the vectors of both sides. For others, an entry is the Shapley value of the word in the
        game of the patch.

        Args:
            image: The image, explained by this method.
            text: The caption.
            words: The words that get a row.
            of_text: The same method with the options of the text side.
        """
        from nibt.methods._tables import vector_table, word_game_table  # which explanations do not need

        if not self.linear:
            return word_game_table(self, image, text, words)
        return vector_table(self.vectors(image), of_text.vectors(text), words)

    def check_amounts(self, caller: str) -> None:
        """Check that the amounts of the scores are the method's own, where no others are possible."""
        if self.amounts != "method":
            raise BadOption(
                f"amounts must be method for {caller} (got {self.amounts!r}): leave amounts out, or use explain"
            )

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are explained; empty for methods without layers."""
        return getattr(self, "layer", ())

    @property
    def lowest(self) -> int:
        """The lowest layer whose state is read."""
        return min(self.layers, default=0)

    @classmethod
    def configured(cls, tower: Tower, variant: str, options: Options, recommended: Options) -> "Method":
        """Return the method for one tower, with all options resolved.

        Args:
            tower: The tower of the side that is explained.
            variant: A key of ``variants``.
            options: Values by option. The prefix ``image_`` or ``text_`` limits a value to one side: ``image_layer``.
            recommended: The values that the model recommends. If the class takes them, they apply to the variants
                ``default`` and ``fast``, which keeps its own steps, and only to options that the variant sets.

        Raises:
            UnknownName: There is no such variant or option.
            BadOption: An option cannot have that value.
            Unsupported: The tower lacks what the method needs.
        """
        cls.check_options(variant, options)
        if "states" not in tower.offers:  # the options of layers depend on them
            check_offers(cls.name, cls.needs, tower)

        of_variant = cls.variants[variant][tower.modality]
        of_model = {}
        if cls.takes_recommended and variant in ("default", "fast"):
            defaults = _side_options(recommended, tower.modality, prefixed_only=True)
            own_options = {"steps"} if variant == "fast" else set()
            of_model = {name: value for name, value in defaults.items() if name in of_variant.keys() - own_options}

        # two passes: for what the user sets, what the model recommends is a default
        of_side = _side_options(options, tower.modality)
        values = cls.completed(tower, cls.completed(tower, of_variant, of_model), of_side)

        if not tower.shiftable and values.keys() & {"views", "amounts"}:  # need whole images
            _check_plain(values, options, tower)
        if "layer" in values:
            values["layer"] = tower.layers_of(values["layer"], cls.layer_leaves_block, "answer" in cls.needs)

        types = field_types(cls)
        method = cls(**{name: parsed(name, value, types[name]) for name, value in values.items() if name in types})
        if of_side:
            _check_effects(method, of_side, options)
        method.check(tower)
        return method

    @classmethod
    def check_options(cls, variant: str, options: Options) -> None:
        """Check the variant, and the options as far as no tower is needed: a layer depends on the tower's depth."""
        if variant not in list(cls.variants):
            raise UnknownName("variants", variant, cls.variants)

        types = field_types(cls)
        sided = {f"{side}_{option}": option for side in SIDES for option in types}
        for name, value in options.items():
            option = name if name in types else sided.get(name)
            if option is None:
                raise UnknownName("options", name, types)
            if option != "layer" and value is not None:
                parsed(name, value, types[option])

    @classmethod
    def completed(cls, tower: Tower, defaults: Options, changes: Options) -> Keywords:
        """Return the values of all options: the changes, and defaults for others, which may depend on both."""
        return {**defaults, **changes}

    @classmethod
    def draws(cls, options: Options) -> bool:
        """Return whether the method draws at random with unresolved options: if it has a ``seed``, by default."""
        return "seed" in {option.name for option in fields(cls)}

    def required(self) -> tuple[Need, ...]:
        """Return what a tower must offer for these options."""
        return self.needs

    def check(self, tower: Tower) -> None:
        """Check that the tower offers what these options need; ``Unsupported`` names the methods that work with it."""
        check_offers(self.name, self.required(), tower)

    def cost_formula(self) -> str:
        """Return the formula of the cost for these options."""
        return self.cost

    def forwards(self, depth: int, units: int) -> float:
        """Return the cost of an explanation of one side with these options, in forward passes of its tower.

        Args:
            depth: The number of blocks of the tower.
            units: The number of patches or of tokens.

        Raises:
            ValueError: ``cost`` is not a formula.
        """
        from nibt.methods._cost import evaluate  # which explanations do not need

        options = {name: float(value) for name, value in vars(self).items() if isinstance(value, int | float)}
        numbers = {"blocks": float(depth), **options, "depth": float(depth), "units": float(units)}
        costs = [evaluate(self.cost_formula(), {**numbers, "layer": float(layer)}) for layer in self.layers or (0,)]
        of_views = self.views * sum(costs)
        if self.amounts == "method":
            return of_views

        from nibt.methods._amounts import MOST  # which amounts of the method itself do not need

        return of_views + MOST

    def options(self) -> Keywords:
        """Return the resolved options in the form that records store."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


def pair_methods() -> list[str]:
    """Return the names of the methods that need neither late interaction nor a generator."""
    return [name for name in available("methods") if not {"vectors", "answer"} & {*find("methods", name).needs}]


def linear_methods() -> list[str]:
    """Return the names of the methods whose units have vectors."""
    return [name for name in available("methods") if find("methods", name).linear]


def _side_options(options: Options, modality: Modality, prefixed_only: bool = False) -> Keywords:
    """Return the options of a side without their prefix; prefixed options win, and None counts as not set."""
    prefix = f"{modality}_"
    values = {name: value for name, value in options.items() if value is not None}
    of_both = {name: value for name, value in values.items() if not name.startswith(("image_", "text_"))}
    of_side = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    return of_side if prefixed_only else of_both | of_side


def _check_effects(method: Method, names: Iterable[str], options: Options) -> None:
    """Check that options of a side have an effect, there or on the other side, whose options have its name before."""
    for name in names:
        if name not in method.conditions:
            continue

        other, values = method.conditions[name]
        of_sides = [value for key, value in options.items() if key.endswith(f"_{other}")]
        shared = getattr(method, other, None)
        if not any(value in values for value in [shared, *of_sides]):
            raise BadOption(
                f"{name} has no effect with {other}={shared}: leave {name} out, or set {other} to "
                f"{' or '.join(map(str, values))}"
            )


def _check_plain(values: Keywords, options: Options, tower: Tower) -> None:
    """Drop options that need whole images, for a side of other inputs; it is an error to set them for this side."""
    for name, plain in (("views", 1), ("amounts", "method")):
        values.pop(name, None)
        of_both = tower.modality == "image" or tower.images > 1
        requested = options.get(f"{tower.modality}_{name}", options.get(name) if of_both else None)
        if requested is not None and parsed(name, requested, type(plain)) != plain:
            reason = "which takes patches instead of an image" if tower.modality == "image" else "which takes captions"
            subject = "several images" if tower.images > 1 else f"this {tower.called}, {reason}"
            raise BadOption(f"{name} must be {plain} for {subject}: leave {name} out")


@dataclass(frozen=True)
class LayerMethod(Method):
    """Base class of methods that explain layers.

    Args:
        layer: One layer or several, whose maps are averaged.
    """

    needs = ("states",)

    layer: Layers


def check_offers(name: str, needs: Sequence[Need], tower: Tower) -> None:
    """Check that a tower offers what a method needs."""
    lacking = [need for need in needs if need not in tower.offers]
    if not lacking:
        return

    able = [method for method in available("methods") if tower.offers.issuperset(find("methods", method).needs)]
    raise Unsupported(
        f"{name} needs {' and '.join(lacking)}, which this {tower.called} lacks; methods for this {tower.called}: "
        f"{', '.join(able)}"
    )


def both_sides(**variants: Options) -> dict[str, dict[Modality, Options]]:
    """Return the variants of a method whose values are the same for images and captions."""
    return {name: dict.fromkeys(SIDES, values) for name, values in variants.items()}


def average_layers(
    side: Side, layers: tuple[int, ...], maps: Sequence[PerToken], summaries: Sequence[PathSummary] = ()
) -> Attribution:
    """Compute the mean of the maps of several layers."""
    cut = side.trace.cut(layers[0])
    units = cut.units
    rows = cut.hidden.shape[: 2 if cut.hidden.ndim == 3 else 1]
    for index, scores in enumerate(maps):
        shape = rows if index == 0 else rows[:1]  # other layers may have other grids
        if not isinstance(scores, Tensor) or not scores.is_floating_point() or scores.shape[: len(shape)] != shape:
            got = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise BadOption(
                f"a map must be a tensor of floats with a score per item and row of the hidden state, {list(shape)} "
                f"(got {got}): correct the method"
            )

    if any(scores.shape != maps[0].shape for scores in maps):
        raise Unsupported(
            f"layers {layers} have different grids, so their maps cannot be averaged: choose layers with the same grid"
        )

    path = PathSummary.mean(summaries) if len(summaries) > 1 else next(iter(summaries), None)
    return Attribution.of_rows(torch.stack(list(maps)).mean(0), units, path)
