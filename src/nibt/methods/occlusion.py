"""Occlusion: the drop of the score without a unit (Zeiler and Fergus, ECCV 2014, arXiv 1311.2901).

    score of unit u = S - S(without u)

A patch is replaced by the mean color, a word by the embedding of the padding token. Units are removed one at a time,
so two words with the same content both get low scores.

Answers:
    By how much the score drops if this patch, or this word, is missing.

Use it when:
    You explain a caption, which has few words, or want an answer that does not depend on layers or gradients.

Avoid it when:
    Two parts say the same: neither drop shows it. On images it costs a forward pass per cell, which on convolutional
    towers are hundreds.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from typing_extensions import override

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Segments, Units, Words
from nibt.methods._segments import SegmentMethod
from nibt.types import UnitValues


@dataclass(frozen=True)
class Occlusion(SegmentMethod):
    """The drop of the score when one unit is removed."""

    paper = "Zeiler and Fergus, ECCV 2014, arXiv 1311.2901"
    kind = "perturbation"
    linear = True
    cost = "1 + units"
    variants: ClassVar = {name: {"image": {}, "text": {}} for name in ("default", "paper")}

    @override
    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        count, tried = units.count, torch.arange(units.count, device="cpu")
        if isinstance(units, Words):  # only rows that belong to a word in any caption of the batch
            tried = units.explained.cpu().any(0).nonzero()[:, 0]
        device = side.tower.example.device
        keep = 1 - torch.eye(count, dtype=torch.float32, device=device)[tried.to(device)]
        hidden = masker(side, units)(keep[:, None].expand(-1, len(side.inputs), -1))
        scores = hidden.new_zeros(len(side.inputs), count, *hidden.shape[2:])
        scores[:, tried] = side.value()[:, None] - hidden.transpose(0, 1)
        return scores


PLUGIN = Occlusion
