"""Grad-ECLIP (Zhao et al., ICML 2024, arXiv 2502.18816) on the last attention, with the true multi-head forward.

    score of token t = relu(sum_d (dS/do_r)_d * l_t * v_td),  l_t = cos(q_r, k_t), stretched to [0, 1]

o is the attention's output before its projection, v its values; heads lie side by side in d. The cosines are
stretched over the tokens that row r may look at.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from nibt.core.side import Side
from nibt.methods._attention import AttentionMethod, gradients
from nibt.models._attention import AttentionRecord, Map
from nibt.results.attribution import min_max
from nibt.types import PerToken


@dataclass(frozen=True)
class GradECLIP(AttentionMethod):
    paper = "Zhao et al., ICML 2024, arXiv 2502.18816"
    cost = "1 + about 3 / depth"
    signed = False

    @override
    def scores(self, side: Side) -> PerToken:
        seen = side.attentions(side.tower.depth - 1)
        (gradient,) = gradients(side, seen, [seen.last.output])
        channel = _joined(gradient) @ _joined(seen.last.value).mT
        return seen.as_read((channel * _looseness(seen.last)).relu())


def _looseness(last: AttentionRecord) -> Map:
    """How near each key is to each query, in [0, 1], whatever the softmax made of it."""
    near = F.normalize(_joined(last.query), dim=-1) @ F.normalize(_joined(last.key), dim=-1).mT
    return min_max(near, (last.weights > 0).any(1))


def _joined(heads: Float[Tensor, "batch head row channel"]) -> Float[Tensor, "batch row channels"]:
    return heads.transpose(1, 2).flatten(2)


PLUGIN = GradECLIP
