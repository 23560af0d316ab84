r"""Occlusion: the drop of the score without a unit (Zeiler and Fergus, ECCV 2014, arXiv 1311.2901).

$$\text{score}_u = S - S(\text{without } u)$$

A patch is replaced by the mean color, a word by the embedding of the padding token. Units are removed one at a time.

Answers:
    By how much the score drops if this patch, or this word, is missing.

Use it when:
    You explain a caption, which has few words, or want an answer that does not depend on layers or gradients.

Avoid it when:
    Regions carry the same evidence: removing either changes little, so both get low scores. On images it costs a
    forward pass per cell, which on convolutional towers are hundreds.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Segments, Units
from nibt.methods._units import SegmentMethod, coalition_masks, share_equally
from nibt.types import UnitValues


@dataclass(frozen=True)
class Occlusion(SegmentMethod):
    """The drop of the score when one unit is removed."""

    paper = "Zeiler and Fergus, ECCV 2014, arXiv 1311.2901"
    category = "perturbation"
    linear = True
    cost = "1 + units"
    variants: ClassVar = {name: {"image": {}, "text": {}} for name in ("default", "paper")}

    def scores(self, side: Side, units: Units | Segments) -> UnitValues:
        players = self.players(units, len(side.inputs))
        keep = coalition_masks(
            [~np.eye(len(item_players), dtype=bool) for item_players in players], players, units.count
        )
        hidden = masker(side, units)(keep.to(side.tower.example.device))
        drops = side.value()[:, None] - hidden.transpose(0, 1)
        return torch.stack(
            [
                share_equally(drops[item, : len(item_players)], item_players, units.count)
                for item, item_players in enumerate(players)
            ]
        )
