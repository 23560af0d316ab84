r"""MFABA: gradients along an adversarial path (Zhu et al., AAAI 2024, arXiv 2312.13630).

$$x_{j+1} = x_j - \text{stride} \, \text{sign}(\partial S / \partial x_j)$$

$$\text{score}_t = -\sum_j \sum_c (x_{j+1} - x_j)_{tc} \, (\partial S / \partial x_j)_{tc}$$

$x_0$ are the first tokens. Each step lowers the score, so every term is the stride times an absolute gradient: a
sensitivity, which is never negative.

Answers:
    How sensitive the score is to each first token, along an adversarial path.

Use it when:
    You compare with the table of NIB's paper.

Avoid it when:
    You need a sign, or the place of an object: on ``scenes``, with one view, its pointing is 0.51, that of ``nib``
    0.85.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from nibt.core.side import Side
from nibt.methods.base import Method
from nibt.options import Positive, Steps
from nibt.results.attribution import Attribution


@dataclass(frozen=True)
class MFABA(Method):
    """Gradients summed along an adversarial path that starts at the first tokens.

    Args:
        steps: The number of steps.
        stride: The length of a step in every coordinate.
    """

    paper = "Zhu et al., AAAI 2024, arXiv 2312.13630"
    category = "path"
    cost = "1 + about 3 x steps"
    signed = False
    needs = ("stem",)
    variants: ClassVar = {name: {"image": {}, "text": {}} for name in ("default", "paper")}

    steps: Steps = 10
    stride: Positive = 0.01

    def attribute(self, side: Side) -> Attribution:
        stem = side.stem()
        states = stem.hidden[None]
        scores = torch.zeros(stem.hidden.shape[:2], dtype=torch.float32, device=stem.hidden.device)
        for _ in range(self.steps):
            gradient = side.gradient(stem, states)
            step = -self.stride * gradient.sign()
            scores = scores - (step * gradient)[0].sum(-1)
            states = states + step
        return Attribution.of_rows(scores, stem.units)
