r"""The Narrowing Information Bottleneck (Zhu et al., ICLR 2025, arXiv 2502.14889).

$$\text{score}_t = \sum_c (h - r)_{tc} \int_0^1 \frac{\partial S}{\partial z_{tc}}(z(\lambda)) \, d\lambda$$

$$z(\lambda) = r + \lambda (h - r)$$

A hidden layer moves along a straight path from its state $h$ to a baseline $r$ without information. A token's score is
the part of the change of $S$ that its row contributes. With $r = 0$ it is the published method. By default, there is no
noise; with it, $r + d s n$ with $n \sim N(0, 1)$ takes the place of $r$, and the scores, means over draws of $n$, are
shares of the expected change of $S$.

Answers:
    How much each patch and each word adds to the similarity, compared with a blank input, and with which sign. The
    completeness gap is a few percent of the change; a ``tolerance`` limits it.

Use it when:
    You need a first answer. It explains both sides of every model in a few forward passes.

Avoid it when:
    You want to know what happens if a region is removed: use ``occlusion`` or ``amounts=removal``. Do not read signs in
    the variant ``paper``: on ``scenes``, 47 % of its scores of absent nouns are negative, which is chance.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._noise import draw, generators, moments
from nibt.methods._path import PathMethod, products
from nibt.methods._vectors import SideVectors
from nibt.methods._views import Views
from nibt.methods.base import LayerMethod, Options, average_layers
from nibt.options import Either, Keywords, NotNegative, Positive, Samples, Seed
from nibt.progress import tracked
from nibt.results.attribution import Attribution, PathSummary
from nibt.types import Hidden, PerExample, States

_FIRST_STEPS = 5  # of a path with a tolerance


@dataclass(frozen=True)
class NIB(PathMethod, LayerMethod):
    """Gradients integrated along the path from a baseline to a hidden state.

    Args:
        tolerance: The largest completeness gap, relative to the change of the score.
        noise: ``none``, or the deviation s of the noise: ``unit`` (1), or ``features`` (per channel, that of the item).
        deviation: The factor d of that deviation.
        samples: The number of draws of noise, whose maps are averaged.
        seed: The seed of the noise.
    """

    paper = "Zhu et al., ICLR 2025, arXiv 2502.14889"
    category = "path"
    linear = True
    cost = "1 + 2 x steps x (1 - layer / depth)"
    table_tolerance = 0.01  # two integrals are multiplied: with few steps, the product may have the wrong sign
    answer_defaults: ClassVar = {"tolerance": 0.05, "views": 3}  # decoders need more steps than encoders
    variants: ClassVar = {
        "default": {
            "image": {"layer": 0.65, "baseline": "blank", "quadrature": "midpoint", "steps": 3, "views": 3},
            "text": {"layer": 0, "baseline": "blank", "quadrature": "midpoint", "steps": 6},
        },
        "fast": {
            "image": {"layer": 0.65, "baseline": "blank", "quadrature": "late", "steps": 1, "views": 3},
            "text": {"layer": 0, "baseline": "blank", "quadrature": "midpoint", "steps": 4},
        },
        "paper": {
            side: {"layer": 0.75, "baseline": "zero", "quadrature": "riemann", "steps": 10}
            for side in ("image", "text")
        },
    }

    tolerance: Positive | None = None
    noise: Annotated[str, Either(("none", "unit", "features"))] = "none"
    deviation: NotNegative = 1.0
    samples: Samples = 10
    seed: Seed = 0

    @classmethod
    def draws(cls, options: Options) -> bool:
        return any(value not in (None, "none") for name, value in options.items() if name.endswith("noise"))

    def linear_vectors(self, side: Side) -> SideVectors:
        if self.noisy:
            raise BadOption(
                f"noise must be none where embeddings are narrowed (got {self.noise!r}): leave noise out, or use "
                "explain"
            )
        return super().linear_vectors(side)

    @property
    def noisy(self) -> bool:
        """Whether the states of the path have noise."""
        return self.noise != "none" and self.deviation > 0

    def cost_formula(self) -> str:
        return "1 + samples x (1 + 2 x steps) x (1 - layer / depth)" if self.noisy else self.cost

    @classmethod
    def completed(cls, defaults: Options, changes: Options) -> Keywords:
        """Return the values of the options.

        If only a tolerance is set, the rule is the one that keeps its nodes when steps are added. The rule ``late`` has
        one step.
        """
        values, rule = dict(defaults), changes.get("quadrature", defaults.get("quadrature"))
        if "quadrature" not in changes and "steps" not in changes:
            if changes.get("tolerance") is not None and rule != "riemann":
                values |= {"quadrature": "clenshaw_curtis", "steps": _FIRST_STEPS}
        elif changes.get("quadrature") == "late":
            values["steps"] = 1
        elif defaults.get("quadrature") == "late":
            values |= {"quadrature": "midpoint", "steps": cls.steps}
        return {**values, **changes}

    def of_view(self, views: Views) -> Callable[[Side], Attribution]:
        """Return what computes the scores of one view; a tolerance holds for their mean."""
        return self.attribute if self.tolerance is None else partial(self.attribute, change=self.change(views.sides(1)))

    def change(self, sides: Iterable[Side]) -> PerExample:
        """Compute the mean change of the score over the paths of all views, layers and samples."""
        changes = []
        for side in sides:
            for layer in self.layer:
                cut, name = side.cut(layer), "zero" if self.noisy else self.baseline
                for start in self.starts(side, layer, cut.hidden):
                    at_input, at_start = self.ends(side, cut, layer, start, name)
                    changes.append(at_input - at_start)
        return torch.stack(changes).mean(0)

    def attribute(self, side: Side, change: PerExample | None = None) -> Attribution:
        """Compute the mean of the maps of all layers and, with noise, of the paths that start at its samples.

        Args:
            side: The batch, or several views of it.
            change: The change of the score that the tolerance refers to; None means that of each path, or their mean.
        """
        noisy = self.noisy
        if change is not None:
            change = change.repeat(len(side.trace.inputs.values) // len(change))
        elif self.tolerance is not None and (len(self.layer) > 1 or noisy):
            change = self.change([side])
        maps, paths = [], []
        for layer in self.layer:
            cut = side.trace.cut(layer)
            starts = tracked(list(self.starts(side, layer, cut.hidden))) if noisy else [None]
            runs = [self.integrate(side, cut, layer, products, start, change) for start in starts]
            maps.append(torch.stack([scores for scores, _ in runs]).mean(0) if noisy else runs[0][0])
            paths += [PathSummary.mean([path for _, path in runs]) if noisy else runs[0][1]]
        return average_layers(side, self.layer, maps, paths)

    def starts(self, side: Side, layer: int, hidden: Hidden) -> States:
        """Return the states at l = 0 of each sample: the baseline with noise; without noise the baseline alone."""
        baseline = side.baseline(self.baseline, layer, hidden)
        if not self.noisy:
            return baseline[None]
        noise = draw(generators(self.seed, hidden.shape[1]), self.samples, hidden)
        return baseline + self.spread(side, hidden).to(hidden) * noise[:, None]

    def spread(self, side: Side, hidden: Hidden) -> Float[Tensor, "#batch #token #width"]:
        """Return the standard deviation of the noise, which the items and their channels may share."""
        exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))  # squares may overflow in half precision
        if self.noise == "features":
            return self.deviation * moments(exact, side.tower.valid_tokens(side.inputs, hidden)[..., None])[1]
        return exact.new_full((1, 1, 1), self.deviation)
