"""Deletion (Petsiuk et al., 2018): remove units from the highest score down, and see how fast the score falls.

The number is the area under the score against the share of units removed: a faithful map has a small one. Ties are
removed in the order of the units.
"""

from dataclasses import dataclass

from nibt.metrics._curve import Curve


@dataclass(frozen=True)
class Deletion(Curve):
    better = "lower"
    inserted = False


PLUGIN = Deletion
