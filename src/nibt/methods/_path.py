"""Methods with a path: NIB, integrated gradients, and methods of one gradient, averaged along NIB's path.

The states of the path are z(l) = r + l (h - r), from a baseline r to the state h. A quadrature rule weights the scores
of these states, which are computed from h - r and the gradient at z(l).
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.core.quadrature import PathRule, Rows, integrate
from nibt.core.side import Side, chunks
from nibt.data.units import Units, special_tokens
from nibt.errors import BadOption
from nibt.methods._vectors import SideVectors
from nibt.methods._views import Views
from nibt.methods.base import LayerMethod, Method, Options, average_layers, both_sides
from nibt.models._inputs import Cut
from nibt.models._lines import Track
from nibt.models._tower import rows_at
from nibt.options import OpenShare, Steps, complete
from nibt.registry import available, find
from nibt.results.attribution import Attribution, PathSummary, allowed
from nibt.types import AtNodes, Hidden, Modality, PerExample, PerToken


class GradientMethod(LayerMethod):
    """Base class of methods that score a layer from its state (or a difference of states) and one gradient."""

    uses_gradients = True

    @abstractmethod
    def scores(self, difference: Hidden, gradient: Hidden, units: Units) -> PerToken:
        """Compute the score of each row. A pure function; a rectifier belongs in here."""

    def attribute(self, side: Side) -> Attribution:
        return average_layers(side, self.layer, [self.layer_scores(side, layer) for layer in self.layer])

    def layer_scores(self, side: Side, layer: int) -> PerToken:
        """Compute the scores of one layer from the gradient at its state."""
        cut = side.cut(layer)
        return self.scores(cut.hidden, side.gradient(cut, cut.hidden[None])[0], cut.units)


Scores = Callable[[Hidden, Hidden], PerToken]
"""Computes the score of each row from h - r and the gradient at one state."""


@dataclass(frozen=True)
class PathStage:
    """A number that a state of a batch determines, and where the path of the state starts.

    What a special token carries at a layer, such as the class token, came from units at earlier layers. Let w be the
    mean gradient of the score at its row. One block below, w . block(z) is a number that the state z determines, with
    a path of its own from the baseline to the input. The gradients along it divide the score of the special tokens
    among all rows of the earlier layer. So it goes on, down to layer 0, where special tokens are constants and have
    no score.

    Attributes:
        side: The side of the batch.
        layer: The layer of the state; None for the first tokens.
        start: The state at the start of the path.
        cut: The tower cut at the layer, or one block of it.
        score: Computes the number from what ``cut`` computes: the score of the side, or a sum of special tokens.
        weights: The weights of this sum.
        baseline: The name of the state at which the path starts.
    """

    side: Side
    layer: int | None
    start: Hidden
    cut: Cut
    score: Callable[[Tensor], Tensor]
    weights: Float[Tensor, "batch value"] | None = None
    baseline: str = "blank"

    @classmethod
    def of_layer(cls, side: Side, layer: int | None, baseline: str) -> "PathStage":
        """Return the stage from a layer (None: from the first tokens) to the score, with a named baseline."""
        cut = side.stem() if layer is None else side.trace.cut(layer)
        start = side.baseline(baseline, layer, cut.hidden).expand_as(cut.hidden)
        return cls(side, layer, start, cut, side.score, baseline=baseline)

    @classmethod
    def of_block(
        cls, side: Side, number: int, weights: Float[Tensor, "batch value"], rows: int, baseline: str
    ) -> "PathStage":
        """Return the stage from the input of a block to the weighted sum of the first rows of its output."""
        cut = side.trace.block(number, rows)
        start = side.baseline(baseline, number, cut.hidden).expand_as(cut.hidden)
        return cls(side, number, start, cut, lambda values: (values * weights).sum(-1), weights, baseline)

    def take(self, rows: Sequence[int]) -> "PathStage":
        """Return the stage of the items at ``rows``."""
        layer = self.layer
        assert layer is not None, "the first tokens are not cut for some items"
        side = self.side.take(rows)
        if self.weights is not None:
            width = self.start.shape[2]
            first_rows = self.weights.shape[1] // width
            return PathStage.of_block(side, layer, self.weights[rows], first_rows, self.baseline)
        return PathStage(side, layer, self.start[rows], side.trace.cut(layer), side.score, baseline=self.baseline)

    @cached_property
    def lines(self) -> Track:
        """The lines of the states that enter the block."""
        assert self.layer is not None
        assert self.weights is not None
        rows = self.weights.shape[1] // self.start.shape[2]
        is_shared = self.start.stride(0) == 0  # as the state of a blank image is, which is then computed once
        return self.side.trace.on_lines(self.layer, rows, self.start[:1] if is_shared else self.start)

    def change(self) -> PerExample:
        """Compute the change of the number of a block along the path, from recorded states."""
        assert self.layer is not None
        assert self.weights is not None
        after = self.layer + 1
        hidden = self.side.trace.cut(after).hidden
        change = hidden - self.side.baseline(self.baseline, after, hidden)
        count = self.weights.shape[1] // change.shape[2]
        return self.score(_distributing(self.side, change, count).flatten(1))


@dataclass(frozen=True)
class PathMethod(Method):
    """Base class of methods with a path.

    Args:
        baseline: The state at the start of the path: ``zero``, ``blank``, ``mean``, ``mean:FILE``, or for images
            ``against``, the state of the image in ``against_images``.
        quadrature: The rule that places and weights the states at which gradients are taken.
        steps: The number of these states.
        floor: The lower end of the path for the rule ``geometric``.
    """

    baseline: str = "blank"
    quadrature: str = "gauss"
    steps: Steps = 4
    floor: OpenShare = 0.1
    uses_gradients: ClassVar[bool] = True
    tolerance: ClassVar[float | None] = None
    distribute: ClassVar[bool] = False
    conditions: ClassVar = {"floor": ("quadrature", ("geometric",))}

    def __post_init__(self) -> None:
        complete(self)
        if self.tolerance is None and self.quadrature == "adaptive":
            raise BadOption(
                "quadrature adaptive is for nib with a tolerance, up to which it takes more steps: set tolerance, or "
                "another quadrature"
            )
        assert self.rule.nodes  # checks the options of the rule
        if self.tolerance is not None and self.quadrature == "late":
            raise BadOption("quadrature must not be late with a tolerance, which takes more steps: use adaptive")
        if self.baseline.partition(":")[0] not in ("zero", "blank", "mean", "against"):
            raise BadOption(f"baseline must be zero, blank, mean, mean:FILE or against (got {self.baseline!r})")
        if self.quadrature == "geometric" and self.baseline != "zero":
            raise BadOption(
                f"quadrature geometric needs the baseline zero (got {self.baseline!r}); use gauss with other baselines"
            )

    @property
    def rule(self) -> PathRule:
        """How the path is integrated."""
        return PathRule(self.quadrature, self.steps, self.floor, self.tolerance)

    def linear_vectors(self, side: Side) -> SideVectors:
        """Integrate the vectors along the path, if that is how the method computes its scores."""
        from nibt.methods._path_vectors import PathVectors  # which explanations do not need

        views = Views.of(side, self.views, self.layers, self.lowest)
        return PathVectors.of(side, self.rule, self.baseline, self.layers, self.distribute, views)

    def ends(self, stage: PathStage, name: str) -> tuple[PerExample, PerExample]:
        """Return the scores at the end and at the start of a path: of the baseline ``name``, or of another state."""
        side = stage.side
        state = stage.start + self.rule.nodes.low * (stage.cut.hidden - stage.start)  # geometric starts at its floor
        embedding = side.end(name, stage.layer, stage.cut, state)
        with torch.no_grad():
            return side.score(side.trace.embedding), side.score(embedding)

    def attribute_stages(
        self, stage: PathStage, scores: Scores, name: str = "", change: PerExample | None = None
    ) -> tuple[PerToken, PathSummary]:
        """Compute the scores of the rows of a layer or, if special tokens distribute theirs, of all stages.

        ``name`` is the baseline, or ``zero`` for a path from another state. The tolerance refers to ``change``; None
        is that of the score along the path.
        """
        at_input, at_start = self.ends(stage, name or self.baseline)
        special, special_rows = self._special_rows(stage)
        layer = stage.layer
        blocks_below = range(layer or 0) if special_rows else range(0)

        bound = None  # of the gap of one stage
        if self.tolerance is not None:
            bound = allowed(at_input - at_start if change is None else change, self.tolerance)
            bound = bound / (1 + len(blocks_below))  # each stage adds its gap

        _, tokens, width = stage.start.shape
        values, steps = self.integrate(stage, scores, at_input - at_start, bound, special_rows)
        total = values[:, :tokens]
        for block in reversed(blocks_below):
            # the scores of special tokens are divided among the rows that enter the block, by their mean gradients
            gradients = values[:, tokens:].unflatten(1, (special_rows, width))
            is_special = special.expand(len(gradients), -1)[..., None]
            weights = (gradients * _distributing(stage.side, is_special, special_rows)).flatten(1)
            stage = PathStage.of_block(stage.side, block, weights, special_rows, stage.baseline)
            of_stage = None if bound is None else stage.change()

            # what special tokens have of this stage is divided in the next one, so it replaces what they had
            values, steps_of_stage = self.integrate(stage, scores, of_stage, bound, special_rows)
            total = total.masked_fill(special, 0) + values[:, :tokens]
            steps = torch.maximum(steps, steps_of_stage)

        # ``Attribution.of_rows`` divides the sum into that of the units and that of special tokens
        summary = PathSummary(
            baseline=self.baseline,
            quadrature=self.quadrature,
            layers=() if layer is None else (layer,),
            steps=steps,
            at_input=at_input,
            at_baseline=at_start,
            sum=total.sum(-1),
            special_tokens=torch.zeros_like(at_input),
            tolerance=self.tolerance,
        )
        return total, summary

    def _special_rows(self, stage: PathStage) -> tuple[Bool[Tensor, "#batch token"], int]:
        """Return which rows distribute their scores, and how many first rows have all of them (0: none does)."""
        tokens = stage.start.shape[1]
        if not self.distribute or not stage.layer:  # nothing is below layer 0
            return torch.zeros(1, tokens, dtype=torch.bool, device=stage.start.device), 0

        special, rows = special_tokens(stage.cut.units, tokens)
        special = special.to(stage.start.device)

        # in a causal tower, the start token saw no unit: the end token alone has something to distribute
        end = stage.side.tower.end_row(stage.side.inputs)
        if end is not None and not _between_units(special, end).any():
            rows = 1
        return special, rows

    def integrate(
        self,
        stage: PathStage,
        scores: Scores,
        change: PerExample | None,
        bound: PerExample | None,
        special_rows: int,
    ) -> tuple[Float[Tensor, "batch value"], PerExample]:
        """Average the scores along the path of a stage, and return the number of steps of each item.

        Without a ``bound`` of the gap to the ``change``, it takes the steps of the rule. The gradients of the first
        ``special_rows`` are averaged, too, and follow the scores.
        """
        count, tokens, _ = stage.start.shape

        def values_at(positions: Sequence[float], rows: Rows) -> AtNodes:
            stage_of_rows = stage if len(rows) == count else stage.take(rows.tolist())
            return self._values_at(stage_of_rows, scores, positions, special_rows)

        all_rows = torch.arange(count, device=stage.start.device)

        def gaps(values: PerToken, rows: Rows) -> PerExample:
            assert change is not None
            assert bound is not None
            return (change[rows] - values[:, :tokens].sum(-1)).abs() / bound[rows]

        return integrate(self.rule, values_at, all_rows, gaps)

    def _values_at(self, stage: PathStage, scores: Scores, positions: Sequence[float], special_rows: int) -> AtNodes:
        """Compute the scores at positions of a path and, after them, the gradients of the first ``special_rows``."""
        # on lines, only the sum of a gradient over the channels is known, which is what ``products`` takes of it
        if stage.weights is not None and scores is products:
            on_lines = _products_on_lines(stage, positions)
            if on_lines is not None:
                return on_lines

        side = stage.side
        hidden = stage.cut.hidden
        difference = hidden - stage.start
        at_once = None if side.memory is None else side.at_once(stage.layer, hidden)

        values = []
        for chunk in chunks(len(positions), hidden, at_once=at_once):
            shares = difference.new_tensor(positions[chunk])[:, None, None, None]
            states = stage.start + shares * difference
            for gradient in side.gradient(stage.cut, states, stage.score):
                of_rows = scores(difference, gradient)
                if special_rows:
                    of_special = _distributing(side, gradient, special_rows)
                    of_rows = torch.cat([of_rows, of_special.flatten(1)], -1)
                values.append(of_rows)

        return torch.stack(values)


def _products_on_lines(stage: PathStage, positions: Sequence[float]) -> AtNodes | None:
    """Compute ``products`` of a block at positions of a path and, after them, the gradients of the computed rows.

    None if the block cannot be computed on lines.
    """
    assert stage.layer is not None
    side = stage.side
    hidden = stage.cut.hidden
    at_once = None if side.memory is None else side.at_once(stage.layer, hidden)

    values = []
    for chunk in chunks(len(positions), hidden, at_once=at_once):
        states = stage.lines.at(positions[chunk])
        with torch.enable_grad():
            out = side.trace.block_on_lines(stage.layer, states)
            if out is None:
                return None
            of_shares, of_rows = torch.autograd.grad(stage.score(out).sum(), [states.shares, states.rows])

        of_tokens = states.derivatives(of_shares, of_rows)
        values.append(torch.cat([of_tokens, of_rows.flatten(1)], -1).unflatten(0, (-1, len(hidden))))

    return torch.cat(values)


def _distributing(side: Side, values: Tensor, count: int) -> Tensor:
    """Return the rows of special tokens that distribute their scores: the first ones, or a single one at the end."""
    return rows_at(values, count, side.tower.end_row(side.inputs) if count == 1 else None)


def _between_units(special: Bool[Tensor, "#batch token"], end: Tensor) -> Bool[Tensor, "batch token"]:
    """Return which rows are special tokens after the first unit and before the end: these take up what is before."""
    after_unit = (~special).int().cumsum(1) > 0
    before_end = torch.arange(special.shape[1], device=special.device) < end[:, None]
    return special & after_unit & before_end


def products(difference: Hidden, gradient: Hidden) -> PerToken:
    """Compute the score of each row of a path whose integrals add up: the sum over the channels of (h - r) dS/dz."""
    return (difference * gradient).sum(-1)


@dataclass(frozen=True)
class _AlongPath(PathMethod, GradientMethod):
    """Mixin that averages a method of one gradient along the path; ``with_path`` puts it before the method."""

    takes_recommended = True  # of the path

    def attribute(self, side: Side) -> Attribution:
        """Compute the mean of the maps of all layers."""
        maps = []
        paths = []
        for layer in self.layer:
            scores, path = self._attribute_layer(side, layer)
            maps.append(scores)
            paths.append(path)

        return average_layers(side, self.layer, maps, paths)

    def _attribute_layer(self, side: Side, layer: int) -> tuple[PerToken, PathSummary]:
        stage = PathStage.of_layer(side, layer, self.baseline)
        return self.attribute_stages(stage, partial(self.scores, units=stage.cut.units))


_PATHS: dict[str, Mapping[Modality, Options]] = {
    "default": {
        "image": {"baseline": "blank", "quadrature": "gauss", "steps": 4},
        "text": {"baseline": "blank", "quadrature": "gauss", "steps": 8},
    },
    **both_sides(paper={"baseline": "zero", "quadrature": "riemann", "steps": 10}),
}


def along_path(name: str) -> type[GradientMethod]:
    """Return the named method averaged along NIB's path ("NIB with X"), with the options of the path added.

    The method keeps its own layers. The variant ``paper`` uses the path of NIB's variant ``paper``; the others use that
    of NIB's default.
    """
    method_class = find("methods", name)
    if not issubclass(method_class, GradientMethod):
        able = [method for method in available("methods") if issubclass(find("methods", method), GradientMethod)]
        raise BadOption(
            f"{name} cannot go along a path, since it is not computed from one gradient of a layer; use one of: "
            f"{', '.join(able) or 'none'}"
        )
    return with_path(method_class)


@cache
def with_path(method_class: type[GradientMethod]) -> type[GradientMethod]:
    """Return the class that averages a method of one gradient along the path."""
    variants = {
        variant: {side: {**_PATHS.get(variant, _PATHS["default"])[side], **options} for side, options in sides.items()}
        for variant, sides in method_class.variants.items()
    }
    members = {
        "variants": variants,
        "cost": f"1 + steps x ({method_class.cost})",
        "__doc__": method_class.__doc__,
        "__module__": method_class.__module__,
    }
    return dataclass(frozen=True)(type(f"{method_class.__name__}AlongPath", (_AlongPath, method_class), members))
