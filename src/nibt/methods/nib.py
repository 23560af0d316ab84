r"""The Narrowing Information Bottleneck (Zhu et al., ICLR 2025, arXiv 2502.14889).

$$\text{score}_t = \sum_c (h - r)_{tc} \int_0^1 \frac{\partial S}{\partial z_{tc}}(z(\lambda)) \, d\lambda$$

$$z(\lambda) = r + \lambda (h - r)$$

NIB replaces the state $h$ of a hidden layer by states $z(\lambda)$ on the straight path to $h$ from a baseline $r$, by
default the state of a blank input. Along the path, the target changes from $S(r)$ to $S(h)$. The score of token $t$ is
the part of this change that is due to the token's state. With $r = 0$, it is the published method. With ``noise``, the
path starts at $r + d s n$ with $n \sim N(0, 1)$, the standard deviation $s$ and the factor $d$ (``deviation``). The
scores are means over draws of $n$, so they add up to the mean change of $S$.

With ``distribute``, NIB distributes the scores of special tokens, such as the class token, among the patches or words
whose content these tokens took up in earlier blocks. Let $R$ be the special tokens, $G$ their mean gradients, and
$B(z)$ the output of the block before the layer, for a state $z$ one layer lower. NIB integrates the gradients of the
number $\sum_{t \in R} G_t \cdot B(z)_t$ along the path one layer lower, which gives each token of that layer a score.
The scores of patches and words are kept. Those of special tokens are distributed again one layer lower, and so on down
to layer 0 ([details](../../explanation/theory.md#what-special-tokens-have)).

Shows:
    How much each patch and each word raises or lowers the similarity, compared with a blank input. On ``scenes``, the
    median completeness gap is 2 % of the change for images and 5 % for captions; a ``tolerance`` limits it.

Use it when:
    You want a first explanation. It explains both sides of every dual encoder in a few forward passes.

Avoid it when:
    You want to know what the removal of a region changes: remove it, or use ``occlusion`` for one patch or
    word. Do not rely on the signs of the variant ``paper``: on 1,000 scenes, only 47 % of its scores of absent nouns
    are negative, as by chance.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.core.quadrature import FIRST_STEPS
from nibt.core.side import Side
from nibt.errors import BadOption
from nibt.methods._path import PathMethod, PathStage, products
from nibt.methods._vectors import SideVectors
from nibt.methods.base import LayerMethod, Options, average_layers, both_sides
from nibt.models.base import Tower
from nibt.options import Either, Keywords, NotNegative, Positive, Samples, Seed, parsed
from nibt.progress import tracked
from nibt.results.attribution import Attribution, PathSummary
from nibt.types import Hidden, PerExample, PerToken, States

_DISTRIBUTING = " + (5 + steps) x layer / depth / 25"
"""The part of the cost that distributes, as measured."""
_SHIFTED_STEPS = 6
"""The steps of shifted views, whose sums need no tolerance; in trials, maps with more steps found places no better."""
_DISTRIBUTED = {"baseline": "blank", "quadrature": "midpoint", "distribute": True}
_EXACT = ("blank", "against")  # baselines with states at all layers
_SHARE = 0.65  # of the depth: the layer of heads that read patches, and where nothing is distributed
_OF_PATCHES = {4: 8, 3: 6}
"""The steps for heads that read patches, whose path passes blocks, by those for heads that do not."""


@dataclass(frozen=True)
class NIB(PathMethod, LayerMethod):
    """Gradients integrated along the path from a baseline to a hidden state.

    Args:
        layer: One layer or several, whose maps are averaged. On images, the default is the last one if the embedding is
            computed from special tokens only, as from CLIP's class token, and 0.65 of the depth otherwise. If the
            embedding is computed from patches, as in SigLIP, the defaults are eight steps and one view. With other
            models, the default is five views instead of three for a difference of two images. It is also five for the
            answer of a generator that takes one image of one size.
        tolerance: The largest allowed completeness gap of all tokens, relative to the change of the target; up to 65
            steps are taken. None does not limit it. Unless ``steps`` or ``quadrature`` is set, the path takes them
            where it needs them. In generators, shifted views, which do not change the sum, take six Gauss steps.
        distribute: Whether the scores of special tokens, such as the class token, are distributed among the units whose
            content these tokens took up, block by block down to layer 0, so that the scores of the units add up. It
            needs the baseline ``blank`` or ``against``, and no noise.
        noise: ``none``, or the standard deviation s of the noise: ``unit`` (1), or ``features`` (that of each channel).
        deviation: The factor d by which the standard deviation s is multiplied.
        samples: The number of draws of noise, whose maps are averaged.
        seed: The seed of the noise.
    """

    paper = "Zhu et al., ICLR 2025, arXiv 2502.14889"
    category = "path"
    linear = True
    takes_recommended = True
    cost = f"1 + 2 x steps x (1 - layer / depth){_DISTRIBUTING}"
    table_tolerance = 0.01  # two integrals are multiplied: with few steps, the product may have the wrong sign
    # decoders need more steps than encoders, and more views make the maps of answers and of two images finer
    task_defaults: ClassVar = {"answer": {"tolerance": 0.05, "views": 5}, "images": {"image_views": 5}}
    conditions: ClassVar = {
        **PathMethod.conditions,
        **dict.fromkeys(("deviation", "samples", "seed"), ("noise", ("unit", "features"))),
    }
    variants: ClassVar = {
        "default": {
            "image": {**_DISTRIBUTED, "layer": _SHARE, "steps": 4, "views": 3},
            "text": {**_DISTRIBUTED, "layer": 0, "steps": 6},
        },
        "fast": {
            "image": {**_DISTRIBUTED, "layer": _SHARE, "steps": 3},
            "text": {**_DISTRIBUTED, "layer": 0, "steps": 4},
        },
        **both_sides(paper={"layer": 0.75, "baseline": "zero", "quadrature": "riemann", "steps": 10}),
    }

    tolerance: Positive | None = None
    distribute: bool = False
    noise: Annotated[str, Either(("none", "unit", "features"))] = "none"
    deviation: NotNegative = 1.0
    samples: Samples = 10
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distribute and (self.baseline not in _EXACT or self.noise != "none"):
            got = f"noise {self.noise}" if self.baseline in _EXACT else f"the baseline {self.baseline}"
            raise BadOption(
                "distribute must be false unless the path starts at the baseline blank or against, without noise (got "
                f"{got})"
            )

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
        if self.noisy:
            return "1 + samples x (1 + 2 x steps) x (1 - layer / depth)"
        return self.cost if self.distribute else self.cost.removesuffix(_DISTRIBUTING)

    @property
    def lowest(self) -> int:
        return 0 if self.distribute else min(self.layer)

    @classmethod
    def completed(cls, tower: Tower, defaults: Options, changes: Options) -> Keywords:
        """Return the values of the options, some of which depend on the tower, and on others that are changed."""
        values = {**defaults, **cls._rule_of_path(defaults, changes), **changes}
        values["distribute"] = cls._distributes(tower, defaults, values, changes)

        # if the head reads patches, the path passes blocks: it needs twice as many steps, and takes one view
        is_of_patches = tower.modality == "image" and tower.distributes and tower.reads_units
        if is_of_patches and "distribute" in defaults:
            if not {"layer", "steps", "quadrature", "tolerance"} & changes.keys():
                values["steps"] = _OF_PATCHES.get(values["steps"], values["steps"])
            if "views" in values and "views" not in changes:
                values["views"] = 1
            values["distribute"] = values["distribute"] and tower.has_special_tokens

        # if it reads special tokens only, and these distribute, the last layer needs no gradient of a whole block
        if "layer" not in changes and tower.modality == "image":
            if values["distribute"] and values.get("layer") == _SHARE and not tower.reads_units:
                values["layer"] = tower.depth
            elif defaults.get("distribute") and not values["distribute"] and values.get("layer") == tower.depth:
                values["layer"] = _SHARE

        return values

    @classmethod
    def _rule_of_path(cls, defaults: Options, changes: Options) -> Keywords:
        """Return the rule and the steps that follow from a changed rule, or from a tolerance without one.

        With only a tolerance, the rule is the one that keeps its nodes when steps are added.
        """
        rule = changes.get("quadrature", defaults.get("quadrature"))
        if "quadrature" not in changes and "steps" not in changes:
            if changes.get("tolerance") is not None and rule != "riemann":
                return {"quadrature": "adaptive", "steps": FIRST_STEPS}
            return {}

        if changes.get("quadrature") == "late":
            return {"steps": 1}
        if changes.get("quadrature") == "adaptive":
            return {"steps": FIRST_STEPS}
        if defaults.get("quadrature") == "late":
            return {"quadrature": "midpoint", "steps": cls.steps}
        return {}

    @classmethod
    def _distributes(cls, tower: Tower, defaults: Options, values: Options, changes: Options) -> bool:
        """Return whether the scores of special tokens are distributed: as requested, or where that is exact.

        It is from a baseline whose states are known at all layers, without noise.
        """
        if "distribute" in changes:
            return parsed("distribute", changes["distribute"], bool)
        if not tower.distributes or not defaults.get("distribute"):
            return False
        return values.get("baseline", cls.baseline) in _EXACT and values.get("noise", cls.noise) == "none"

    def for_shifted_views(self, tower: Tower) -> "NIB":
        # of an encoder, vectors are computed with the tolerance, too, and must give the same maps
        if self.tolerance is None or self.quadrature != "adaptive" or tower.modality == "image":
            return self
        return replace(self, tolerance=None, quadrature="gauss", steps=_SHIFTED_STEPS)

    def attribute(self, side: Side) -> Attribution:
        """Compute the mean of the maps of all layers and, with noise, of the paths that start at its samples."""
        # the tolerance is one of the mean that is reported, so every path has the same share of its change
        change = None
        if self.tolerance is not None and (len(self.layer) > 1 or self.noisy):
            change = self.change(side)

        maps = []
        paths = []
        for layer in self.layer:
            stage = PathStage.of_layer(side, layer, self.baseline)
            if self.noisy:
                scores, path = self._attribute_samples(stage, change)
            else:
                scores, path = self.attribute_stages(stage, products, change=change)

            maps.append(scores)
            paths.append(path)

        return average_layers(side, self.layer, maps, paths)

    def _attribute_samples(self, stage: PathStage, change: PerExample | None) -> tuple[PerToken, PathSummary]:
        """Compute the mean of the maps of the paths that start at samples of the noise."""
        assert stage.layer is not None
        starts = self.starts(stage.side, stage.layer, stage.cut.hidden)

        maps = []
        paths = []
        for start in tracked([replace(stage, start=start) for start in starts]):
            scores, path = self.attribute_stages(start, products, "zero", change)
            maps.append(scores)
            paths.append(path)

        return torch.stack(maps).mean(0), PathSummary.mean(paths)

    def change(self, side: Side) -> PerExample:
        """Compute the mean change of the score over the paths of all layers and samples."""
        changes = []
        for layer in self.layer:
            stage = PathStage.of_layer(side, layer, self.baseline)
            for start in self.starts(side, layer, stage.cut.hidden):
                at_input, at_start = self.ends(replace(stage, start=start), "zero" if self.noisy else self.baseline)
                changes.append(at_input - at_start)

        return torch.stack(changes).mean(0)

    def starts(self, side: Side, layer: int, hidden: Hidden) -> States:
        """Return the states at l = 0 of each sample: the baseline with noise; without noise the baseline alone."""
        baseline = side.baseline(self.baseline, layer, hidden)
        if not self.noisy:
            return baseline[None]

        from nibt.methods._noise import draw, generators  # which paths without noise do not need

        noise = draw(generators(self.seed, hidden.shape[1]), self.samples, hidden)
        return baseline + self.spread(side, hidden).to(hidden) * noise[:, None]

    def spread(self, side: Side, hidden: Hidden) -> Float[Tensor, "#batch #token #width"]:
        """Return the standard deviation of the noise, which the items and their channels may share."""
        exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))  # squares may overflow in half precision
        if self.noise == "features":
            from nibt.methods._noise import moments  # which paths without noise do not need

            return self.deviation * moments(exact, side.tower.valid_tokens(side.inputs, hidden)[..., None])[1]
        return exact.new_full((1, 1, 1), self.deviation)
