r"""The logit lens (nostalgebraist, 2020), for answers of generators.

$$\text{score}_t = \text{softmax}(\text{logits of the state of row } t)_y$$

$y$ is the first token of the word. The head of the decoder reads each row alone, at the output of a layer.

Answers:
    Which patches, and which words before, already stand for the word.

Use it when:
    You want a map without a gradient, or the baseline of the literature on generators.

Avoid it when:
    You need a sign or sums: a probability has neither.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from nibt.core.side import Side
from nibt.methods.base import LayerMethod
from nibt.models._answers import AnswerTower
from nibt.results.attribution import Attribution


@dataclass(frozen=True)
class LogitLens(LayerMethod):
    """The probability of the word at each row of a layer."""

    paper = "nostalgebraist, 2020, interpreting GPT: the logit lens"
    category = "other"
    cost = "1"
    needs = ("answer",)
    signed = False
    layer_leaves_block = True
    variants: ClassVar = {"default": {"image": {"layer": 0.99}, "text": {"layer": 0.99}}}

    def attribute(self, side: Side) -> Attribution:
        tower, targets = side.tower, side.inputs.extra["targets"][:, :1]
        assert isinstance(tower, AnswerTower)
        maps = []
        with torch.no_grad(), tower.computing():
            for layer in self.layer:
                shares = tower.logits(tower.last_states(side.cut(layer).hidden)).softmax(-1)
                maps.append(shares.gather(-1, targets[:, :, None].expand(-1, shares.shape[1], 1))[..., 0])
        scores, units = torch.stack(maps).mean(0), side.units
        return Attribution.of_rows(scores, units)
