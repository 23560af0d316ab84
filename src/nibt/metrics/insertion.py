"""Insertion (Petsiuk et al., 2018): put units in from the highest score down, and see how fast the score rises.

The number is the area under the score against the share of units put in: a faithful map has a large one.
"""

from dataclasses import dataclass

from nibt.metrics._curve import Curve


@dataclass(frozen=True)
class Insertion(Curve):
    better = "higher"
    inserted = True


PLUGIN = Insertion
