"""FIxLIP: a model of order two, fitted by least squares to the scores of coalitions (Baniecki et al., NeurIPS 2025).

    S(coalition) = constant + sum_i e_i x_i + sum_{i<k} e_ik x_i x_k,   x_i = 1 if unit i is kept, else 0

Units are kept independently with the probability ``share``. The score of a unit is its coefficient if each x has its
mean subtracted, which is its mean effect, as of ``banzhaf``. In a words x patches table, the units of both sides are
fitted together, and an entry is the coefficient of a word with a patch.

The fit of all pairs of the coalitions of two sides gives the table that two regressions of embeddings give, if each
side has more coalitions than units: ``banzhaf`` computes that. The variant ``paper`` keeps and removes single tokens.

Answers:
    Which words and patches, and which of them together, a model of order two says raise the score.

Use it when:
    You compare with the published method, or want to check ``banzhaf`` against the fit that it replaces.

Avoid it when:
    The image has many units: 64 patches have 2,016 pairs, and all these coefficients need more coalitions.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from nibt.errors import BadOption
from nibt.methods._coalitions import (
    CoalitionMethod,
    Coalitions,
    Values,
    Weights,
    centered_monomials,
    drawn_coalitions,
    least_squares,
)
from nibt.options import OpenShare

MOST = 200_000_000
"""The largest number of features of all coalitions: 1.6 GB."""


@dataclass(frozen=True)
class FIxLIP(CoalitionMethod):
    """The coefficients of a model of order two.

    Args:
        budget: The number of coalitions of each side.
        share: The probability that a unit is kept.
        pairs: For tables: ``all`` fits the scores of all pairs of an image's and a caption's coalition, ``drawn``
            those of as many random pairs as the image's ``budget``, each with a forward pass of its own.
        seed: The seed of the coalitions.

    """

    paper = "Baniecki et al., NeurIPS 2025, arXiv 2508.05430"
    cost = "1 + budget"
    variants: ClassVar = {
        "default": {"image": {}, "text": {}},
        "paper": {"image": {}, "text": {"units": "tower"}},
    }

    share: OpenShare = 0.5
    pairs: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs not in ("all", "drawn"):
            raise BadOption(f"pairs must be all or drawn (got {self.pairs!r})")

    @override
    def coalitions(self, players: int) -> tuple[Coalitions, Weights]:
        """Return coalitions as ``banzhaf``."""
        features = players * (players + 1) // 2
        if features * min(self.budget, 2**players) > MOST:
            raise BadOption(
                f"fixlip has {features:,} features for each coalition of {players:,} units, and budget times features "
                f"must be at most {MOST:,} (got a budget of {self.budget:,}): choose banzhaf, or fewer units or "
                "coalitions"
            )
        return drawn_coalitions(players, self.budget, self.share, self.seed)

    @override
    def fit(self, shown: Coalitions, weights: Weights, values: Values, whole: np.ndarray | float) -> np.ndarray:
        features = centered_monomials(shown, self.share)
        return least_squares(features, weights, values)[: shown.shape[1]]


PLUGIN = FIxLIP
