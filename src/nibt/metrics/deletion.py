"""Deletion: the area under the score while units are removed by decreasing attribution score.

A faithful map has a small area (Petsiuk et al., 2018). Units with equal scores are removed in their own order.
"""

from dataclasses import dataclass

from nibt.metrics._curve import Curve


@dataclass(frozen=True)
class Deletion(Curve):
    """The area under the score as a function of the share of removed units."""

    better = "lower"
    inserted = False


PLUGIN = Deletion
